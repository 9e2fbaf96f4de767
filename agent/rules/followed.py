"""Finds the files that `any_path` fields name, and notices when such a path leads to another file.

A file is identified by the device of its file system and its inode number, as events have them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import NamedTuple

from agent.rules.aside import Aside

ANSWER_S = 1.0  # how long no lookup may answer before those that wait are given up
MAX_LOOKUPS = 16  # threads at once; those that wait for a file system stay

_MINOR_BITS = 20  # of a device number in the kernel


class Target(NamedTuple):
    """A file: its path without symbolic links, the kernel's number of its device, and its inode number."""

    path: bytes
    device: int
    inode: int


_Find = Callable[[bytes], Target | None]
_Answer = tuple[bytes, Target | None]

_waiting: set[bytes] = set()  # paths whose lookups have not ended


class Followed:
    """The paths that a set of rules follows, each with the file that it led to when the rules were loaded.

    Paths are looked up side by side: a lookup that takes longer than `answer_s` does not delay the others.
    `silent` are the paths of which the file is not known for that reason; they change once the file system
    answers.
    """

    def __init__(self, find: _Find | None = None, answer_s: float | None = None) -> None:
        self._find = find or target
        self._answer_s = ANSWER_S if answer_s is None else answer_s
        self.files: dict[bytes, Target | None] = {}
        self.silent: set[bytes] = set()

    def look_up(self, paths: Iterable[bytes]) -> None:
        """Look up paths that `follow` will ask for."""
        new = dict.fromkeys(path for path in paths if path not in self.files)
        found = _look_up(new, self._find, self._answer_s)
        self.files |= {path: found.get(path) for path in new}
        self.silent.update(new.keys() - found.keys())

    def follow(self, path: bytes) -> Target | None:
        """Return the file at a path, through symbolic links; None if there is none, or no answer."""
        self.look_up([path])
        return self.files[path]

    def changed(self) -> bool:
        """Whether one of the paths leads to another file now."""
        found = _look_up(self.files, self._find, self._answer_s)
        return any(self.files[path] != file for path, file in found.items())


class Named(Followed):
    """Collects the paths that rules follow, as keys of `files`, and looks up none."""

    def look_up(self, paths: Iterable[bytes]) -> None:
        """Collect paths."""
        self.files |= dict.fromkeys(paths)


def _look_up(paths: Iterable[bytes], find: _Find, answer_s: float) -> dict[bytes, Target | None]:
    """Return the files of those paths whose lookups answer; others wait in their threads."""
    pending = deque(path for path in paths if path not in _waiting)
    expected = len(pending)
    answers: SimpleQueue[_Answer] = SimpleQueue()
    for _ in range(min(MAX_LOOKUPS - len(_waiting), expected)):
        Aside(partial(_answer, pending, find, answers))
    found: dict[bytes, Target | None] = {}
    with suppress(Empty):
        while len(found) < expected:
            path, file = answers.get(timeout=answer_s)
            found[path] = file
    pending.clear()
    return found


def _answer(pending: deque[bytes], find: _Find, answers: SimpleQueue[_Answer]) -> None:
    with suppress(IndexError):
        while True:
            path = pending.popleft()
            _waiting.add(path)
            file = find(path)
            _waiting.discard(path)
            answers.put((path, file))


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
