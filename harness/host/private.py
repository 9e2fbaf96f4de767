"""Folders and files that no other user of this host can have written.

The harness acts on files in such a folder: it ends processes, opens libvirt and starts programs as they say.
Anything else is hostile input. In a private folder below trusted parents no other user can create, replace or
rename an entry, so a check is still true when the path is used.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.errors import ConfigError
from harness.host import paths

_MAX_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make(path: Path) -> None:
    """Create a private folder with its parents, or accept one that is private. Raises OSError."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if reason := refusal(path):
        raise PermissionError(reason)


def refusal(path: Path) -> str:
    """Return why the folder `path` must not be trusted, as one sentence; "" for a private folder.

    A link is never trusted. Raises FileNotFoundError.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{path} is not a directory"
    if status.st_uid != os.getuid():
        return f"{path} belongs to another user (uid {status.st_uid})"
    if status.st_mode & _OTHERS:
        return f"{path} is not private to this user (mode {stat.S_IMODE(status.st_mode):04o})"
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        return f"{path} cannot be read and written by this user (mode {stat.S_IMODE(status.st_mode):04o})"
    return _parent_refusal(path)


def read(path: Path) -> bytes:
    """Read a file of this user that no other user can write; raises OSError for any other, links included."""
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise PermissionError(f"{path} is not a regular file")
        if status.st_uid != os.getuid() or status.st_mode & _OTHERS_WRITE:
            raise PermissionError(f"{path} can be written by another user")
        return file.read(_MAX_BYTES)


def write(path: Path, data: bytes) -> None:
    """Write a file that only this user can read, whatever the umask; follows no link. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(data)


def foreign(status: os.stat_result, *, sudo: bool = True) -> bool:
    """Whether the file or folder of that status belongs to a user other than root and this one.

    With `sudo`, the user who called sudo counts as this user.
    """
    caller = os.environ.get("SUDO_UID", "") if sudo and os.geteuid() == 0 else ""
    return status.st_uid not in {0, os.geteuid(), int(caller) if caller.isdecimal() else 0}


def open_to_all(status: os.stat_result) -> bool:
    """Whether every user of this host may change the file or folder of that status."""
    return bool(status.st_mode & stat.S_IWOTH)


def replaceable(folder: os.stat_result) -> bool:
    """Whether every user of this host may put another file in place of one in the folder of that status."""
    return open_to_all(folder) and not folder.st_mode & stat.S_ISVTX


def open_to_group(status: os.stat_result) -> bool:
    """Whether members of a group that is not this user's own may change the file of that status.

    With the usual umask 002, everything that a user makes is open to the user's own group.
    """
    caller = os.environ.get("SUDO_GID", "") if os.geteuid() == 0 else ""
    own = {0, os.getegid(), int(caller) if caller.isdecimal() else 0}
    return bool(status.st_mode & stat.S_IWGRP) and status.st_gid not in own


def check_input(path: Path, handle: int) -> None:
    """Raise ConfigError if another user can change the file `path`, open as `handle`, or replace it.

    The harness uses packages, files and programs that such a file names. Raises OSError.
    """
    file, folders = os.fstat(handle), list(dict.fromkeys((path.parent, paths.real(path).parent)))
    for where, status in ((path, file), (path, path.lstat()), *((one, one.stat()) for one in folders)):
        if foreign(status):
            what = "this file" if where == path else path.name
            hint = f"run as that user, or chown -h {os.geteuid()} {where}"
            raise ConfigError(f"{where} is owned by uid {status.st_uid}, who could change {what}", hint=hint)
    writable = [path] if open_to_all(file) else [one for one in folders if replaceable(one.stat())]
    for where in writable:
        raise ConfigError(f"{path}: every user of this host can change it", hint=f"run chmod o-w {where}")
    if open_to_group(file):
        problem = f"{path}: every member of the group {file.st_gid} can change it"
        raise ConfigError(problem, hint=f"run chmod g-w {path}")


def _parent_refusal(path: Path) -> str:
    """Name a folder above `path` in which another user could replace what leads to it."""
    absolute = path.absolute()
    for parent in dict.fromkeys((*absolute.parents, *paths.real(absolute).parents)):
        status = parent.stat()
        if status.st_uid not in (0, os.getuid()):
            return f"{parent}, above {path}, belongs to another user (uid {status.st_uid})"
        if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            return f"{parent}, above {path}, can be written by other users"
    return ""
