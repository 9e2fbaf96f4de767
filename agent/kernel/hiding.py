"""Hides a file from this process and its children, to test the agent as on a kernel without BTF."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from agent.errors import KernelError

_CLONE_NEWNS = 0x20000  # include/uapi/linux/sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # include/uapi/linux/mount.h


def hide(path: str) -> None:
    """Enter a new mount namespace and mount /dev/null over the file. Do nothing if the file does not exist.

    Raises KernelError if the kernel refuses.
    """
    if not Path(path).is_file():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    _check("create a mount namespace", libc.unshare(_CLONE_NEWNS))
    _check("make all mounts private", libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None))
    _check(f"mount /dev/null over {path}", libc.mount(b"/dev/null", path.encode(), None, _MS_BIND, None))


def _check(action: str, result: int) -> None:
    if result:
        raise KernelError(f"cannot {action}: {os.strerror(ctypes.get_errno())}", hint="run as root")
