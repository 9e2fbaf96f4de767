"""Remembers until the next boot what was observed of this kernel, in a directory that only we can write to.

A file counts only with the id of this boot and the stamp of what observed it, and only if no other user can
change the file or its directory. Otherwise the observation is repeated.
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


def stamp(path: Path) -> str:
    """Changes with the content of a file, such as the object whose programs observe."""
    return f"{zlib.crc32(path.read_bytes()):08x}"


def recall(name: str, mark: str) -> Any:
    """What `keep` was given under this name and stamp since the boot; None if there is nothing to trust."""
    try:
        known = json.loads(_read(DIRECTORY / name))
        return known["value"] if (known["boot"], known["stamp"]) == (_boot(), mark) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(name: str, mark: str, value: Any) -> None:
    """Remember a value of JSON. On a host where that is not possible the next start observes again."""
    aside = DIRECTORY / f"{name}.{os.getpid()}"
    try:
        DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _ours(os.lstat(DIRECTORY), stat.S_ISDIR):
            return
        text = json.dumps({"boot": _boot(), "stamp": mark, "value": value})
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
        aside.replace(DIRECTORY / name)
    except OSError:
        return


def _read(place: Path) -> bytes:
    """A file of ours. Raises OSError, PermissionError if another user could have written it."""
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


def _boot() -> str:
    return _BOOT_ID.read_text("ascii").strip()
