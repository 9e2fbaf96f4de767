"""Runs in the guest: reads what fanotify reports of the places' file systems while programs run.

The events are read after the programs, so that no reader competes with the agents; `outside.py` on the host
parses them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterable
from types import TracebackType

FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE, FAN_UNLIMITED_MARKS = 1, 2, 0x10, 0x20
FAN_REPORT_DIR_FID, FAN_REPORT_NAME = 0x400, 0x800  # from 5.9
FAN_MARK_ADD, FAN_MARK_FILESYSTEM = 1, 0x100
FAN_OPEN, FAN_CLOSE_WRITE, FAN_OPEN_EXEC, FAN_ONDIR = 0x20, 8, 0x1000, 0x40000000
FAN_MOVED_FROM, FAN_MOVED_TO, FAN_CREATE, FAN_DELETE = 0x40, 0x80, 0x100, 0x200
MASK = (
    FAN_OPEN | FAN_CLOSE_WRITE | FAN_OPEN_EXEC | FAN_ONDIR
    | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_CREATE | FAN_DELETE
)  # fmt: skip
ROOM = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Watches the file systems of directories from outside of the programs.

    `devices` are the numbers of those that it watches. The guest's own file system is none of them: the
    agents and the neighbours write there. `missing` has the error for each directory whose file system this
    kernel's fanotify cannot watch, or one for "fanotify" itself.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.devices: set[str] = set()
        self.missing: dict[str, str] = {}
        self._fd = _init()
        if self._fd < 0:
            self.missing["fanotify"] = os.strerror(ctypes.get_errno())
            return
        own = os.stat("/").st_dev
        for path in paths:
            with contextlib.suppress(FileNotFoundError):
                device = os.stat(path).st_dev
                if device != own:
                    self._mark(path, device)

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    def read(self) -> bytes:
        """Return the events so far."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while self._fd >= 0:
                found.append(os.read(self._fd, ROOM))
        return b"".join(found)

    def _mark(self, path: str, device: int) -> None:
        flags = FAN_MARK_ADD | FAN_MARK_FILESYSTEM
        failed = _libc.fanotify_mark(self._fd, flags, ctypes.c_uint64(MASK), -100, os.fsencode(path))
        if failed and ctypes.get_errno() != errno.EXDEV:  # EXDEV: a subvolume, which its btrfs' mark includes
            self.missing[path] = errno.errorcode[ctypes.get_errno()]
        else:
            self.devices.add(f"{os.major(device)}:{os.minor(device)}")


def _init() -> int:
    flags = FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS
    found: int = _libc.fanotify_init(flags | FAN_REPORT_DIR_FID | FAN_REPORT_NAME, os.O_RDONLY)
    return found
