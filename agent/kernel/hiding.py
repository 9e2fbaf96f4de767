"""Hides a file from this process and its children: a kernel without type information, made of any."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from agent.errors import KernelError

_CLONE_NEWNS = 0x20000  # include/uapi/linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # include/uapi/linux/mount.h


def hide(path: str) -> None:
    """From here on there is an empty device in the file's place, in a mount namespace of our own.

    Does nothing where there is no such file. Raises KernelError.
    """
    if not Path(path).is_file():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _check("a mount namespace", libc.unshare(_CLONE_NEWNS))
    _check("keep mounts to ourselves", libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(f"hide {path}", libc.mount(b"/dev/null", path.encode(), None, _MS_BIND, None))


def _check(what: str, result: int) -> None:
    if result:
        raise KernelError(f"{what}: {os.strerror(ctypes.get_errno())}", hint="this takes root")
