"""Computes the SHA-256 of a changed file safely: hostile users control the file and its path.

The path may lead to another file by the time the event is handled. The file is therefore opened with O_PATH,
without following a link and without side effects. If it is a regular file with the event's inode and not too
large, it is opened for reading through that descriptor, which a rename cannot redirect. The digest is of the
current content, which may be newer than the event.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.events.model import Event, EventType

MAX_FILE_BYTES = 16 << 20
BYTES_PER_SECOND = 32 << 20
_BLOCK = 1 << 20
_CHANGES = frozenset({EventType.CLOSE, EventType.RENAME})


@dataclass(slots=True)
class HashCounters:
    """Totals since the start."""

    hashed: int = 0
    bytes: int = 0
    too_large: int = 0
    over_budget: int = 0
    changed: int = 0  # removed, replaced, not a regular file, or not readable


class Hasher:
    """Hashes the files of CLOSE (after writing) and RENAME events, at most `bytes_per_second` on average.

    A file of another mount namespace is opened through the process of the event, only while that lives. The
    inode of the event must equal that of `stat`; on overlayfs without xino they differ, and there is no
    digest.
    """

    def __init__(
        self,
        max_file_bytes: int = MAX_FILE_BYTES,
        bytes_per_second: int = BYTES_PER_SECOND,
        clock: Callable[[], float] = time.monotonic,
        proc: Path = Path("/proc"),
    ) -> None:
        self.counters = HashCounters()
        self._max_file_bytes = max_file_bytes
        self._bytes_per_second = bytes_per_second
        self._most = float(max(bytes_per_second, max_file_bytes))
        self._budget = self._most
        self._clock = clock
        self._filled_at = clock()
        self._proc = proc
        # A service can have its own mount namespace; it reaches the host's through process 1.
        self._roots = {0: b"", **_root_of(proc / "1"), **_root_of(proc / "self")}

    def digest(self, event: Event) -> str:
        """Return the digest in hexadecimal, or "" without one; `counters` record the reason."""
        if event.type not in _CHANGES or event.retval < 0:
            return ""
        # After a rename the new path leads to the inode of the old one. The event's second inode is that of
        # the file that was replaced, or 0.
        new = event.file2 if event.type is EventType.RENAME else None
        try:
            with self._open(event, (new or event.file).path) as fd:
                return self._hash(fd)
        except OSError:
            self.counters.changed += 1
            return ""

    @contextmanager
    def _open(self, event: Event, path: bytes) -> Iterator[int]:
        """Open the file of the event at `path`. Raises OSError if it was replaced or cannot be read."""
        handle = os.open(self._path_from_here(event, path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_ino != event.file.inode:
                raise FileNotFoundError
            fd = os.open(self._proc / f"self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        finally:
            os.close(handle)
        try:
            yield fd
        finally:
            os.close(fd)

    def _path_from_here(self, event: Event, path: bytes) -> bytes:
        root = self._roots.get(event.mount_ns)
        return (os.fsencode(self._proc / str(event.pid) / "root") if root is None else root) + path

    def _hash(self, fd: int) -> str:
        size = os.fstat(fd).st_size
        if size > self._max_file_bytes:
            self.counters.too_large += 1
            return ""
        if not self._spend(size):
            self.counters.over_budget += 1
            return ""
        return self._read(fd)

    def _read(self, fd: int) -> str:
        digest = hashlib.sha256()
        left = self._max_file_bytes
        while block := os.read(fd, _BLOCK):
            left -= len(block)
            if left < 0:  # it has grown since fstat
                self.counters.too_large += 1
                return ""
            digest.update(block)
        self.counters.hashed += 1
        self.counters.bytes += self._max_file_bytes - left
        return digest.hexdigest()

    def _spend(self, size: int) -> bool:
        now = self._clock()
        earned = (now - self._filled_at) * self._bytes_per_second
        self._budget = min(self._most, self._budget + earned)
        self._filled_at = now
        if size > self._budget:
            return False
        self._budget -= size
        return True


def host_root(proc: Path = Path("/proc")) -> bytes:
    """Return a path to the host's root directory, also from a mount namespace of our own."""
    return next(iter(_root_of(proc / "1").values()), b"")


def _root_of(process: Path) -> dict[int, bytes]:
    """Return {mount namespace: path to its root} for a process; empty without permission."""
    try:
        return {(process / "ns/mnt").stat().st_ino: os.fsencode(process / "root")}
    except OSError:
        return {}
