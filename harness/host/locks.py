"""Locks between processes that no killed process leaves behind: flock(2) on a file of their own."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds the lock of that file for the block; with `wait` false the value says whether it could be had."""
    handle = acquire(path, wait=wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            os.close(handle)


def acquire(path: Path, *, wait: bool = True) -> int | None:
    """Locks a file, made with its folder if need be; returns what to close, or None if another has it.

    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(path, handle):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        # Its last holder removed it between our two calls: a lock on it would be seen by nobody.
        os.close(handle)


def use(path: Path) -> int:
    """Marks a folder as in use until what is returned is closed; any number of processes may."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(handle, fcntl.LOCK_SH)
    return handle


def in_use(path: Path) -> bool:
    """Whether any process has marked that folder as in use; raises FileNotFoundError if it is not there."""
    handle = claim(path)
    if handle is not None:
        os.close(handle)
    return handle is None


def claim(path: Path) -> int | None:
    """Marks a folder as in use by nobody else until what is returned is closed; None if another uses it."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _is_still_there(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False
