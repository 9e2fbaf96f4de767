"""Locks between processes, by flock(2) on a file: the kernel releases a lock when its process ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from harness.host import background

POLL_S = 0.05


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of that file for the block; yield whether it was acquired, always true with `wait`."""
    handle = acquire(path, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def acquire(path: Path, *, wait: bool = True) -> int | None:
    """Lock a file, created with its folder if absent; return a descriptor to close, or None if it is locked.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _still_named(path, handle):
                return handle
        except BlockingIOError:
            os.close(handle)
            if not wait:
                return None
            background.pause(POLL_S)  # nothing could end a thread that waits in the kernel
            continue
        except BaseException:
            os.close(handle)
            raise
        # Its last holder removed the file between our two calls: no other process would see a lock on it.
        os.close(handle)


def use(path: Path) -> int:
    """Mark a folder as used by this process, among others, until the returned descriptor is closed."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def in_use(path: Path) -> bool:
    """Whether a process has marked that folder as used; raises FileNotFoundError."""
    handle = claim(path)
    if handle is not None:
        os.close(handle)
    return handle is None


def claim(path: Path) -> int | None:
    """Mark a folder as used by this process alone; return a descriptor to close, or None if it is used."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _still_named(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
