"""Finds a cgroup's path by its id without a search: the id is the file handle of the cgroup's directory."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_HANDLE = struct.Struct("=IiQ")  # struct file_handle: bytes of the id, type, id
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h
_ID_BYTES = 8

_libc = ctypes.CDLL(None, use_errno=True)


def path_of(mount: Path, cgroup_id: int) -> bytes | None:
    """Return the path below the mount point of the hierarchy, `/` for its root; None if there is none.

    It takes CAP_DAC_READ_SEARCH. Raises OSError if the mount point cannot be opened.
    """
    top = os.open(mount, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        handle = ctypes.create_string_buffer(_HANDLE.pack(_ID_BYTES, _FILEID_KERNFS, cgroup_id), _HANDLE.size)
        descriptor: int = _libc.open_by_handle_at(top, handle, os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(top)
    if descriptor < 0:
        return None
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}".encode())  # noqa: PTH115 - names are bytes
    finally:
        os.close(descriptor)
    prefix = os.fsencode(mount)
    if path == prefix:
        return b"/"
    below = path.removeprefix(prefix + b"/")
    return None if below == path or below.endswith(b" (deleted)") else b"/" + below


def usable(mount: Path) -> bool:
    """Whether handles lead to directories of this mount: they lead to its root."""
    try:
        return path_of(mount, mount.stat().st_ino) == b"/"
    except OSError:
        return False
