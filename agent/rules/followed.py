"""Finds the files that `any_path` fields name, and notices when such a path leads to another file.

A file is identified by the device of its file system and its inode number, as events have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from agent.rules.aside import Aside

ANSWER_S = 1.0  # how long the lookup of one path may take

_MINOR_BITS = 20  # of a device number in the kernel


class Target(NamedTuple):
    """A file: its path without symbolic links, the kernel's number of its device, and its inode number."""

    path: bytes
    device: int
    inode: int


_Found = tuple[Target | None, ...]  # empty: the file system does not answer

_unanswered: dict[bytes, Aside[Target | None]] = {}  # path -> its lookup, which goes on


class Followed:
    """The paths that a set of rules follows, each with the file that it led to when the rules were loaded.

    A lookup that takes longer than `answer_s` does not delay those of other paths. `silent` are the paths of
    which the file is not known for that reason; they change once the file system answers.
    """

    def __init__(
        self, find: Callable[[bytes], Target | None] | None = None, answer_s: float | None = None
    ) -> None:
        self._find = find or target
        self._answer_s = ANSWER_S if answer_s is None else answer_s
        self.files: dict[bytes, Target | None] = {}
        self.silent: set[bytes] = set()

    def follow(self, path: bytes) -> Target | None:
        """Return the file at a path, through symbolic links; None if there is none, or no answer."""
        if path not in self.files:
            found = self._look(path)
            self.files[path] = found[0] if found else None
            if not found:
                self.silent.add(path)
        return self.files[path]

    def changed(self) -> bool:
        """Whether one of the paths leads to another file now."""
        looked = ((self._look(path), known) for path, known in self.files.items())
        return any(found and found[0] != known for found, known in looked)

    def _look(self, path: bytes) -> _Found:
        lookup = _unanswered.pop(path, None)
        if lookup and lookup.is_alive():
            _unanswered[path] = lookup
            return ()
        lookup = Aside(lambda: self._find(path))
        if not lookup.wait(self._answer_s):
            _unanswered[path] = lookup
        return lookup.results


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
