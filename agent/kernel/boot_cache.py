"""Caches observations of this kernel until the next boot, where no other user can write.

A file is used only if it has the id of this boot and the caller's stamp, and if no other user can write to
the file or its directory. Otherwise the caller observes again.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from pathlib import Path
from typing import Any

DIRECTORY = Path("/run/fim")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_BYTES = 1 << 20
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def checksum(path: Path) -> str:
    """Return a checksum of a file, such as the object whose programs made the observation."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


def load(name: str, stamp: str) -> Any:
    """Return the value stored under this name and stamp since the boot; None if no valid one exists."""
    try:
        entry = json.loads(_read(DIRECTORY / name))
        return entry["value"] if (entry["boot"], entry["stamp"]) == (_boot_id(), stamp) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def store(name: str, stamp: str, value: Any) -> None:
    """Store a JSON value. If the host does not permit it, the next start observes again."""
    temporary = DIRECTORY / f"{name}.{os.getpid()}"
    try:
        DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(os.lstat(DIRECTORY), stat.S_ISDIR):
            return
        text = json.dumps({"boot": _boot_id(), "stamp": stamp, "value": value})
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
        temporary.replace(DIRECTORY / name)
    except OSError:
        return


def _read(place: Path) -> bytes:
    """Read a file of our own. Raises OSError; PermissionError if another user could have written the file."""
    if not _ours(os.lstat(place.parent), stat.S_ISDIR):
        raise PermissionError(place.parent)
    fd = os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        if not _ours(os.fstat(fd), stat.S_ISREG):
            raise PermissionError(place)
        return file.read(_MAX_BYTES)


def _ours(status: os.stat_result, is_kind: Any) -> bool:
    return (
        is_kind(status.st_mode)
        and status.st_uid == os.geteuid()
        and not stat.S_IMODE(status.st_mode) & _OTHERS_WRITE
    )


def _boot_id() -> str:
    return _BOOT_ID.read_text("ascii").strip()
