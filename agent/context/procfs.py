"""Reads one process from `/proc` consistently.

The files of a process can vanish between two reads, and a process can replace its program. A vanished process
is None, and a program that changed while it was read is read again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent.events.actors import NO_USER, Live, Process

ARGS_BYTES = 4096  # kept of a command line
ARGS_COUNT = 64
_NS = 1_000_000_000
_STARTTIME = 22 - 3  # field 22 of proc_pid_stat(5), counted from the state, field 3
_SESSION, _TTY = 6 - 3, 7 - 3
_EFFECTIVE = 1  # after the real user in `Uid:`
_DELETED = b" (deleted)"
_MAX_LOOKS = 1024
_NEVER = 1 << 63
_STATUS_BYTES = 4096  # of a stat or status file, which are shorter


@dataclass(slots=True, frozen=True)
class Found:
    """A process; `born_ns` in CLOCK_BOOTTIME is rounded down to a clock tick."""

    process: Process
    born_ns: int


class _Look(NamedTuple):
    """What a process was when it was read at `at_ns`; `live` is None if it had exited."""

    at_ns: int
    born_ns: int
    live: Live | None


class ProcFs:
    """Reads processes below `root`, which is `/proc` or a test's directory.

    `clock` is CLOCK_BOOTTIME, in ns.
    """

    def __init__(
        self,
        root: Path = Path("/proc"),
        ticks_per_second: int | None = None,
        clock: Callable[[], int] = lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
    ) -> None:
        self.root = root
        self.tick_ns = _NS // (ticks_per_second or os.sysconf("SC_CLK_TCK"))
        self._clock = clock
        self._looks: dict[int, _Look] = {}

    def pids(self) -> Iterator[int]:
        """Yield the pids of the running processes; processes may start and exit meanwhile."""
        with os.scandir(self.root) as entries:
            for entry in entries:
                if entry.name.isdigit():
                    yield int(entry.name)

    def read(self, pid: int) -> Found | None:
        """Read one process without its ancestors; None if it exited. Kernel threads have no `exe`."""
        folder = self.root / str(pid)
        with suppress(OSError, ValueError, IndexError, KeyError):
            exe, command_line = self._program(folder)
            return self._found(pid, folder, exe, command_line)
        return None

    def cgroup(self, pid: int) -> bytes | None:
        """Return the content of the process's cgroup file; None if it exited."""
        try:
            return (self.root / str(pid) / "cgroup").read_bytes()
        except OSError:
            return None

    def root_of(self, pid: int) -> bytes:
        """Return its root directory in its own mount namespace; b"" if it exited."""
        try:
            return os.fsencode((self.root / str(pid) / "root").readlink())
        except OSError:
            return b""

    def mount_ns(self, process: str) -> int:
        """Return the number of a process's mount namespace; 0 without permission."""
        try:
            return (self.root / process / "ns/mnt").stat().st_ino
        except OSError:
            return 0

    def live(self, pid: int, time_ns: int) -> Live | None:
        """Return what changes in the life of the process that had `pid` at `time_ns`; None if it exited.

        It is the process at some time after `time_ns`. So one look serves all events before it: of a burst
        that waited in the ring buffer, only the first event reads files.
        """
        look = self._looks.get(pid)
        if look is None or look.at_ns < time_ns:
            look = self._look(pid)
        return look.live if look.born_ns <= time_ns else None

    def _look(self, pid: int) -> _Look:
        folder, at_ns, born_ns, live = f"{self.root}/{pid}", self._clock(), _NEVER, None
        with suppress(OSError, ValueError, IndexError, KeyError):
            _, fields = split_stat(_content(f"{folder}/stat"))
            cwd = os.readlink(os.fsencode(f"{folder}/cwd"))  # noqa: PTH115 - a path is slow for each event
            euid, egid = _identity(_content(f"{folder}/status"), _EFFECTIVE)
            live = Live(cwd, euid, egid, int(fields[_SESSION]), _terminal(int(fields[_TTY])))
            born_ns = int(fields[_STARTTIME]) * self.tick_ns
        if len(self._looks) >= _MAX_LOOKS:
            self._looks.clear()
        look = self._looks[pid] = _Look(at_ns, born_ns, live)
        return look

    def _found(self, pid: int, folder: Path, exe: bytes, command_line: bytes) -> Found:
        comm, fields = split_stat((folder / "stat").read_bytes())
        uid, gid = _identity((folder / "status").read_bytes())
        args = split_args(command_line)
        process = Process(
            pid, int(fields[1]), pid, comm, exe, args, uid, gid, _audit_user(folder / "loginuid")
        )
        process.args_truncated = len(command_line) > ARGS_BYTES or command_line.count(b"\0") > ARGS_COUNT
        return Found(process, int(fields[_STARTTIME]) * self.tick_ns)

    def _program(self, folder: Path) -> tuple[bytes, bytes]:
        exe, command_line = _exe(folder), _command_line(folder)
        if _exe(folder) != exe:
            exe, command_line = _exe(folder), _command_line(folder)
        return exe, command_line


def _content(path: str) -> bytes:
    """Return the content of a small file."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, _STATUS_BYTES)
    finally:
        os.close(file)


def split_stat(content: bytes) -> tuple[bytes, list[bytes]]:
    """Split a stat file into comm, which may contain spaces and brackets, and the fields after it."""
    start, end = content.index(b"("), content.rindex(b")")
    return content[start + 1 : end], content[end + 1 :].split()


def split_args(content: bytes) -> tuple[bytes, ...]:
    """Split a cmdline file into arguments, at most ARGS_COUNT from ARGS_BYTES."""
    return (
        tuple(content[:ARGS_BYTES].removesuffix(b"\0").split(b"\0", ARGS_COUNT)[:ARGS_COUNT])
        if content
        else ()
    )


def _command_line(folder: Path) -> bytes:
    """Return the arguments, with one byte more than is kept if there are more."""
    with (folder / "cmdline").open("rb") as file:
        return file.read(ARGS_BYTES + 1)


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
    """Whether the kernel added the " (deleted)", and it is not part of the file's name."""
    try:
        return link.stat().st_nlink == 0
    except OSError:
        return False


def _terminal(device: int) -> bytes:
    """Return the kernel's name of a terminal from field 7 of proc_pid_stat(5); b"" without one."""
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    if 136 <= major <= 143:  # Unix98 pseudo terminals
        return b"pts%d" % (minor + ((major - 136) << 8))
    if major == 4:
        return b"tty%d" % minor if minor < 64 else b"ttyS%d" % (minor - 64)
    return b"%d:%d" % (major, minor) if device else b""


def _identity(status: bytes, which: int = 0) -> tuple[int, int]:
    """Return the real uid and gid, as in events, or the effective ones."""
    lines = dict(line.split(b":", 1) for line in status.splitlines() if line.startswith((b"Uid:", b"Gid:")))
    return int(lines[b"Uid"].split()[which]), int(lines[b"Gid"].split()[which])


def _audit_user(path: Path) -> int:
    """Return the login user; a kernel without auditing has no such file."""
    try:
        return int(path.read_bytes())
    except (OSError, ValueError):
        return NO_USER
