"""Watches a mount as a content scanner does, through fanotify (include/uapi/linux/fanotify.h)."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from agent.selftest.evidence import CannotTellError

_FAN_CLASS_CONTENT, _FAN_CLASS_PRE_CONTENT = 0x4, 0x8
_FAN_MARK_ADD, _FAN_MARK_MOUNT = 0x1, 0x10
_FAN_OPEN_PERM, _FAN_PRE_ACCESS = 0x10000, 0x100000
_FAN_ALLOW = 1
_FAN_EVENT = struct.Struct("=IBBHQii")
_AT_FDCWD = -100


@contextmanager
def scanned(path: str) -> Iterator[None]:
    """Watch a mount as content scanners do, which are asked before files are opened and used; allow all."""
    libc = ctypes.CDLL(None, use_errno=True)
    mask = ctypes.c_uint64(_FAN_OPEN_PERM | _FAN_PRE_ACCESS)
    group = libc.fanotify_init(_FAN_CLASS_PRE_CONTENT, os.O_RDWR)
    where = (_FAN_MARK_ADD | _FAN_MARK_MOUNT, mask, _AT_FDCWD, os.fsencode(path))
    if group < 0 or libc.fanotify_mark(group, *where):  # before 6.14
        if group >= 0:
            os.close(group)
        group = libc.fanotify_init(_FAN_CLASS_CONTENT, os.O_RDWR)
        mask.value = _FAN_OPEN_PERM
        if group < 0 or libc.fanotify_mark(group, *where):
            raise CannotTellError(f"cannot watch a mount by fanotify: {os.strerror(ctypes.get_errno())}")
    asked, wake = os.pipe()
    scanner = threading.Thread(target=_allow_all, args=(group, asked))
    scanner.start()
    try:
        yield
    finally:
        os.close(wake)
        scanner.join()
        os.close(group)
        os.close(asked)


def _allow_all(group: int, end: int) -> None:
    """Answer the questions of a fanotify group until the other end of the pipe `end` is closed."""
    while end not in select.select([group, end], [], [])[0]:
        events = os.read(group, 4096)
        while events:
            length, _, _, _, _, file, _ = _FAN_EVENT.unpack_from(events)
            os.write(group, struct.pack("=iI", file, _FAN_ALLOW))
            os.close(file)
            events = events[length:]
