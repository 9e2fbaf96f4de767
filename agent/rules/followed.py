"""Finds the files that `any_path` fields name, and notices when such a path leads to another file.

A file is told from others by the device of its file system and its inode number, as events have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MINOR_BITS = 20  # of a device number in the kernel


class Target(NamedTuple):
    """A file: its path without symbolic links, the kernel's number of its device, and its inode number."""

    path: bytes
    device: int
    inode: int


class Followed:
    """The paths that a set of rules follows, each with the file that it led to when the rules were loaded."""

    def __init__(self, find: Callable[[bytes], Target | None] | None = None) -> None:
        self._find = find or target
        self.files: dict[bytes, Target | None] = {}

    def follow(self, path: bytes) -> Target | None:
        """Return the file at a path, through symbolic links; None if there is none."""
        if path not in self.files:
            self.files[path] = self._find(path)
        return self.files[path]

    def changed(self) -> bool:
        """Whether one of the paths leads to another file now."""
        return any(self._find(path) != known for path, known in self.files.items())


def target(path: bytes) -> Target | None:
    """Look up a file."""
    with suppress(OSError, ValueError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            found = os.readlink(f"/proc/self/fd/{descriptor}".encode())  # noqa: PTH115 - names are bytes
            return Target(found, _device(descriptor), os.fstat(descriptor).st_ino)
        finally:
            os.close(descriptor)
    return None


def _device(descriptor: int) -> int:
    """Return the device of the mount that a file lies on: `st_dev` in a subvolume of btrfs is another."""
    mount = _mount_of(descriptor)
    with Path("/proc/self/mountinfo").open("rb") as lines:
        for line in lines:
            number, _, device = line.split(b" ", 3)[:3]
            if number == mount:
                major, minor = device.split(b":")
                return int(major) << _MINOR_BITS | int(minor)
    status = os.fstat(descriptor)
    return os.major(status.st_dev) << _MINOR_BITS | os.minor(status.st_dev)


def _mount_of(descriptor: int) -> bytes:
    with Path(f"/proc/self/fdinfo/{descriptor}").open("rb") as lines:
        return next((line.split()[1] for line in lines if line.startswith(b"mnt_id:")), b"")
