"""Machines that a run leaves running for a person: `--keep-on-fail`.

    <runtime>/<token>/kept.json    [{"machine", "cell", "ssh"}]: how each is entered

The run that left one is dead, so its directory has no owner and a reaper finds it. A reaper spares what is
named there while it runs, unless it is told to take that too (`harness clean`); the keys stay there as well.
Whoever powers the guest off ends it as well: then there is nothing left to spare.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import private
from harness.vm import ownership

_NAME = "kept.json"


@dataclass(frozen=True)
class Kept:
    """One machine: its name, the cell that failed on it, and the command line that gets in."""

    machine: str
    cell: str
    ssh: tuple[str, ...]


def note(directory: Path, kept: Kept) -> None:
    """Writes down in a run directory that a machine of it is to live on."""
    rows = [asdict(one) for one in (*read(directory), kept)]
    private.write(directory / _NAME, json.dumps(rows, indent=1).encode())


def read(directory: Path) -> list[Kept]:
    """What is written down in a run directory, whether it still runs or not."""
    try:
        rows = json.loads(private.read(directory / _NAME))
        return [Kept(row["machine"], row["cell"], tuple(row["ssh"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def alive(directory: Path) -> list[Kept]:
    """Those that run."""
    found = read(directory)
    names = running_guests() if found else set()
    return [one for one in found if one.machine in names]


def running_guests() -> set[str]:
    """The names of all guests whose QEMU runs on this host."""
    names = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has just ended
        if Path(os.fsdecode(arguments[0])).name.startswith("qemu-system-"):
            words = (os.fsdecode(word) for word in arguments if word.startswith(b"guest="))
            names |= {word.removeprefix("guest=").partition(",")[0] for word in words}
    return names


def everywhere(roots: Sequence[Path] | None = None) -> Iterator[Kept]:
    """Yield every kept machine of this user that runs on this host."""
    for directory in ownership.run_directories(roots):
        yield from alive(directory)


def find(name: str, roots: Sequence[Path] | None = None) -> Kept:
    """The one whose cell or machine is called so, or the only one. Raises InfrastructureError."""
    found = list(everywhere(roots))
    fitting = [one for one in found if name in ("", one.cell, one.machine)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{one.machine} ({one.cell})" for one in found) or "none"
    wanted = f"called {name!r}" if name else "to choose from"
    raise InfrastructureError(
        f"{len(fitting)} kept machines are {wanted}; there is {there}",
        hint="name a machine, or keep one with `harness run --keep-on-fail`",
    )
