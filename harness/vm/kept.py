"""Machines that a run leaves running for the user (`--keep-on-fail`).

    <runtime>/<token>/kept.json    [{"machine", "cell", "ssh"}]: the command line that enters each

The run has ended, so its directory has no owner and a reaper finds it. The reaper spares the machines
that kept.json names while they run, except in `harness clean`; their keys stay in the directory. If the
user powers a guest off, its machine has ended too, and the reaper removes the directory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import private
from harness.vm import qemus

_NAME = "kept.json"


@dataclass(frozen=True)
class Kept:
    """One machine: its name, the cell that failed on it, and the ssh command line that enters it."""

    machine: str
    cell: str
    ssh: tuple[str, ...]


def note(directory: Path, kept: Kept) -> None:
    """Record in a run directory that one of its machines is kept."""
    rows = [asdict(machine) for machine in (*read(directory), kept)]
    private.write(directory / _NAME, json.dumps(rows, indent=1).encode())


def read(directory: Path) -> list[Kept]:
    """Return the machines that a run directory records as kept, whether they still run or not."""
    try:
        rows = json.loads(private.read(directory / _NAME))
        return [Kept(row["machine"], row["cell"], tuple(row["ssh"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def alive(directory: Path) -> list[Kept]:
    """Return the kept machines of a run directory that run."""
    recorded = read(directory)
    names = running_guests() if recorded else set()
    return [kept for kept in recorded if kept.machine in names]


def running_guests() -> set[str]:
    """Return the names of all guests whose QEMU runs on this host."""
    return {qemus.guest_name(arguments) for _, arguments in qemus.running()}


def find(name: str, directories: Iterable[Path]) -> Kept:
    """Return the kept machine of these run directories that has this name or cell; "" is the only one.

    Raises InfrastructureError.
    """
    machines = [machine for directory in directories for machine in alive(directory)]
    matching = [kept for kept in machines if name in ("", kept.cell, kept.machine)]
    if len(matching) == 1:
        return matching[0]
    listed = ", ".join(f"{kept.machine} ({kept.cell})" for kept in machines)
    problem = (
        f"more than one kept machine matches: {listed}"
        if matching
        else f"no kept machine matches {name!r}: {listed}"
    )
    raise InfrastructureError(
        problem if machines else "no machine is kept",
        hint="name a machine, or keep one with `harness run --keep-on-fail`",
    )
