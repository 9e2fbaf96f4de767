"""Removes the QEMU processes, domains and directories of dead runs.

QEMU outlives a process that dies by SIGKILL, also if libvirt is embedded in that process. So each start
checks every run directory whose lock is free (see `ownership`): its owner is dead, and everything with its
token is removed. Directories that another user could have written are ignored with a warning.

A process is killed only if it runs as this user and its command line names the token. It is killed through a
pidfd that was opened before that check, so that a reused process id cannot be hit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from harness.host.processes import HeldProcess
from harness.vm import ownership
from harness.vm.kept import alive as kept_machines
from harness.vm.ownership import Warn

_EXIT_DEADLINE_S = 10.0

DomainReaper = Callable[[str, str], int]
"""Takes a libvirt URI and a token, destroys that URI's domains with the token, returns how many."""


@dataclass(frozen=True)
class Reaped:
    """The processes and domains of one dead run that the reaper removed."""

    token: str
    processes: tuple[int, ...]
    domains: int

    def __str__(self) -> str:
        parts = [f"{len(self.processes)} QEMU"] if self.processes else []
        parts += [f"{self.domains} domains"] if self.domains else []
        return f"{self.token} ({', '.join(parts) or 'files only'})"


def leftovers(roots: list[Path] | None = None, warn: Warn = ownership.ignored) -> list[Path]:
    """Return the run directories whose owner is dead, without changing them."""
    found = []
    for path in ownership.run_directories(roots, warn):
        directory = ownership.adopt_dead(path)
        if directory:
            found.append(path)
            directory.close()
    return found


def reap(
    roots: list[Path] | None = None,
    reap_domains: DomainReaper | None = None,
    *,
    also_kept: bool = False,
    warn: Warn = ownership.ignored,
) -> list[Reaped]:
    """Remove the remains of dead runs below `roots` (default: `ownership.runtime_roots()`).

    Kept machines are spared (see `kept`) without `also_kept`. `warn` receives a line for each directory
    that is ignored because another user could have written it.
    """
    reaped = []
    for path in ownership.run_directories(roots, warn):
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


def kill_by_token(token: str) -> Iterator[int]:
    """Kill each QEMU of this user whose command line names the token; yield its process id once it ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _is_ours(int(entry.name), token):
            pid = int(entry.name)
            if _kill(pid, token):
                yield pid


def _is_ours(pid: int, token: str) -> bool:
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        users = _users(pid)
    except OSError:
        return False
    is_qemu = Path(os.fsdecode(arguments[0])).name.startswith("qemu-system-")
    # The QEMU of a guest has the token in its name, a QEMU that libvirt probes has it in the path of its
    # sockets.
    named, below = f"guest={token}-".encode(), f"/{token}/".encode()
    ours = any(argument.startswith(named) or below in argument for argument in arguments)
    return users == {os.getuid()} and is_qemu and ours


def _users(pid: int) -> set[int]:
    """Return the real, effective, saved and file system user ids of a process."""
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    words = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
    return {int(word) for word in words}


def _kill(pid: int, token: str) -> bool:
    try:
        process = HeldProcess(pid)
    except ProcessLookupError:
        return False
    try:
        # Check again now that the pidfd is open: only this check is certainly about the process that is
        # killed.
        return _is_ours(pid, token) and process.kill(_EXIT_DEADLINE_S)
    finally:
        process.release()
