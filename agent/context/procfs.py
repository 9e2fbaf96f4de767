"""What `/proc` says about one process, read so that the parts belong together.

Every file of a process can vanish between two reads, and a process can replace its program: what is gone is
`None`, and a program that changed while it was read is read again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.events.actors import NO_USER, Process

ARGS_BYTES = 4096  # of a command line that are kept; the rest is cut
ARGS_COUNT = 64
_NS = 1_000_000_000
_STARTTIME = 22 - 3  # field 22 of proc_pid_stat(5), counted from the state, field 3
_DELETED = b" (deleted)"


@dataclass(slots=True, frozen=True)
class Found:
    """A process that was there: `born_ns` in CLOCK_BOOTTIME, known to a clock tick only and rounded down."""

    process: Process
    born_ns: int


class ProcFs:
    """Reads processes below `root`, which is `/proc` itself or a copy of its shape."""

    def __init__(self, root: Path = Path("/proc"), ticks_per_second: int | None = None) -> None:
        self.root = root
        self.tick_ns = _NS // (ticks_per_second or os.sysconf("SC_CLK_TCK"))

    def pids(self) -> Iterator[int]:
        """The processes there are now; more may come and some may go while this is read."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.isdigit():
                    yield int(entry.name)

    def read(self, pid: int) -> Found | None:
        """One process without its ancestors; `None` when it is gone. Kernel threads have no `exe`."""
        folder = self.root / str(pid)
        with suppress(OSError, ValueError, IndexError, KeyError):
            exe, args = self._program(folder)
            return self._found(pid, folder, exe, args)
        return None

    def cgroup(self, pid: int) -> bytes | None:
        """The content of the process's cgroup file; `None` when it is gone."""
        try:
            return (self.root / str(pid) / "cgroup").read_bytes()
        except OSError:
            return None

    def root_of(self, pid: int) -> bytes:
        """Its root directory, as its own mount namespace sees it; empty when it is gone."""
        try:
            return os.fsencode((self.root / str(pid) / "root").readlink())
        except OSError:
            return b""

    def _found(self, pid: int, folder: Path, exe: bytes, args: tuple[bytes, ...]) -> Found:
        comm, fields = split_stat((folder / "stat").read_bytes())
        uid, gid = _identity((folder / "status").read_bytes())
        process = Process(
            pid, int(fields[1]), pid, comm, exe, args, uid, gid, _audit_user(folder / "loginuid")
        )
        return Found(process, int(fields[_STARTTIME]) * self.tick_ns)

    def _program(self, folder: Path) -> tuple[bytes, tuple[bytes, ...]]:
        exe, args = _exe(folder), _args(folder)
        if _exe(folder) != exe:
            exe, args = _exe(folder), _args(folder)
        return exe, args


def split_stat(content: bytes) -> tuple[bytes, list[bytes]]:
    """The comm and the fields after it; a comm may itself hold spaces and brackets."""
    start, end = content.index(b"("), content.rindex(b")")
    return content[start + 1 : end], content[end + 1 :].split()


def split_args(content: bytes) -> tuple[bytes, ...]:
    """The arguments of a cmdline file, cut to what is kept."""
    return (
        tuple(content[:ARGS_BYTES].removesuffix(b"\0").split(b"\0", ARGS_COUNT)[:ARGS_COUNT])
        if content
        else ()
    )


def _args(folder: Path) -> tuple[bytes, ...]:
    with (folder / "cmdline").open("rb") as file:
        return split_args(file.read(ARGS_BYTES))


def _exe(folder: Path) -> bytes:
    link = folder / "exe"
    try:
        target = os.fsencode(link.readlink())
    except OSError:
        return b""
    if target.endswith(_DELETED) and _unlinked(link):
        return target.removesuffix(_DELETED)
    return target


def _unlinked(link: Path) -> bool:
    """Whether the mark is the kernel's: a file may be called that."""
    try:
        return link.stat().st_nlink == 0
    except OSError:
        return False


def _identity(status: bytes) -> tuple[int, int]:
    """The real uid and gid, as in events."""
    found = dict(line.split(b":", 1) for line in status.splitlines() if line.startswith((b"Uid:", b"Gid:")))
    return int(found[b"Uid"].split()[0]), int(found[b"Gid"].split()[0])


def _audit_user(path: Path) -> int:
    """The login user; a kernel without auditing has no such file."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return NO_USER
