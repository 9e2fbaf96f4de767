"""Removes the QEMU processes, domains and directories of dead runs.

QEMU outlives a process that dies by SIGKILL, also if libvirt is embedded in that process. So each start
checks every run directory whose lock is free (see `ownership`): its owner is dead, and everything with its
token is removed. Directories that another user could have written are ignored with a warning.

A process is killed only if it runs as this user and its command line names the token (see `qemus`). A QEMU
whose run directory is gone is killed only if, besides, its program file is a QEMU, its command line names a
directory that this user alone could have made, no process holds that directory's lock, and it is in no
container or chroot, where the directory may still exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError
from harness.host import private
from harness.text import counted
from harness.vm import ownership, qemus
from harness.vm.kept import alive as kept_machines
from harness.vm.ownership import Warn

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
        parts += [counted(self.domains, "domain")] if self.domains else []
        if parts:
            return f"ended {' and '.join(parts)} of the dead run {self.token}"
        return f"removed the files of the dead run {self.token}"


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
    that is ignored because another user could have written it. An error of one directory is raised after
    the others are done.
    """
    reaped, errors = [], list[Exception]()
    for path in ownership.run_directories(roots, warn):
        if not also_kept and kept_machines(path):
            continue
        try:
            directory = ownership.adopt_dead(path)
            if directory:
                reaped.append(_reap_one(directory, reap_domains))
        except (HarnessError, OSError) as error:
            errors.append(error)
    for root in ownership.runtime_roots() if roots is None else roots:
        reaped += [Reaped(token, tuple(qemus.kill_by_token(token)), 0) for token in sorted(_orphans(root))]
    if errors:
        raise errors[0]
    return reaped


def _reap_one(directory: ownership.RunDirectory, reap_domains: DomainReaper | None) -> Reaped:
    token = directory.token
    uri = ownership.owner_uri(directory)
    try:
        domains = reap_domains(uri, token) if uri and reap_domains else 0
    except BaseException:
        directory.close()  # for the next reaper
        raise
    processes = tuple(qemus.kill_by_token(token))
    directory.release()
    return Reaped(token, processes, domains)


def _orphans(root: Path) -> set[str]:
    """Return the tokens of the directories below `root` that are gone while a QEMU of theirs runs."""
    try:
        if private.refusal(root):
            return set()
    except OSError:
        return set()
    named = re.compile(re.escape(os.fsencode(root)) + b"/(" + ownership.TOKEN.pattern.encode() + b")/")
    tokens = set()
    for pid, arguments in qemus.running():
        found = {os.fsdecode(token) for argument in arguments for token in named.findall(argument)}
        gone = {token for token in found if not os.path.lexists(root / token)}
        if gone and qemus.is_this_users(pid) and qemus.runs_qemu(pid) and qemus.sees_our_files(pid):
            tokens |= gone
    return {token for token in tokens if not ownership.lock_is_open(root / token)}
