"""Ends what a dead run left: its QEMU processes, its domains, its directories.

QEMU outlives a process that dies by SIGKILL, also when libvirt is embedded in that process. So each start
looks at every run directory whose lock is free (see `ownership`): its owner is dead, and all that carries its
token is reaped. A process is killed only if its command line names the token, and through a pidfd opened
before that was checked, so that a process id that was used again in between cannot be hit.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host.processes import HeldProcess
from harness.vm import ownership
from harness.vm.kept import alive as kept_machines

_EXIT_DEADLINE_S = 10.0

DomainReaper = Callable[[str, str], int]
"""Takes a libvirt URI and a token, destroys that URI's domains with the token, returns how many."""


@dataclass(frozen=True)
class Reaped:
    """What one dead run left, and is gone now."""

    token: str
    processes: tuple[int, ...]
    domains: int

    def __str__(self) -> str:
        parts = [f"{len(self.processes)} QEMU"] if self.processes else []
        parts += [f"{self.domains} domains"] if self.domains else []
        return f"{self.token} ({', '.join(parts) or 'files only'})"


def leftovers(roots: list[Path] | None = None) -> list[Path]:
    """Run directories whose owner is dead, untouched."""
    found = []
    for path in _candidates(roots):
        directory = ownership.adopt_dead(path)
        if directory:
            found.append(path)
            directory.close()
    return found


def reap(
    roots: list[Path] | None = None, reap_domains: DomainReaper | None = None, *, also_kept: bool = False
) -> list[Reaped]:
    """Ends what dead runs below `roots` (default: `ownership.runtime_roots()`) left; [] if nothing was.

    Machines that were left on purpose are spared (see `kept`), unless `also_kept`.
    """
    reaped = []
    for path in _candidates(roots):
        if not also_kept and kept_machines(path):
            continue
        directory = ownership.adopt_dead(path)
        if directory:
            reaped.append(_reap_one(directory, reap_domains))
    return reaped


def _reap_one(directory: ownership.RunDirectory, reap_domains: DomainReaper | None) -> Reaped:
    token = directory.token
    uri = ownership.owner_uri(directory)
    domains = reap_domains(uri, token) if uri and reap_domains else 0
    processes = tuple(kill_by_token(token))
    directory.release()
    return Reaped(token, processes, domains)


def _candidates(roots: list[Path] | None) -> Iterator[Path]:
    for root in ownership.runtime_roots() if roots is None else roots:
        with contextlib.suppress(FileNotFoundError):
            yield from sorted(path for path in root.iterdir() if path.name.startswith(ownership.PREFIX))


def kill_by_token(token: str) -> Iterator[int]:
    """Kills each QEMU whose command line names the token and waits until it is gone.

    Yields its process id.
    """
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_ours(int(entry.name), token):
            pid = int(entry.name)
            if _kill(pid, token):
                yield pid


def _is_ours(pid: int, token: str) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    is_qemu = Path(os.fsdecode(arguments[0])).name.startswith("qemu-system-")
    named = f"guest={token}-".encode()
    return is_qemu and any(argument.startswith(named) for argument in arguments)


def _kill(pid: int, token: str) -> bool:
    try:
        process = HeldProcess(pid)
    except ProcessLookupError:
        return False
    try:
        # Asked again now that the process is held: this answer is about the one that will be hit.
        return _is_ours(pid, token) and process.kill(_EXIT_DEADLINE_S)
    finally:
        process.release()
