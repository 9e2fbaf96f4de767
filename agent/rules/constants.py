"""Defines the named constants of expressions.

Open flags have the values of the architecture that the agent runs on.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
from functools import cache


def words(text: str) -> list[str]:
    """Split a text into words."""
    return text.split()


OPEN_FLAGS = words(
    "O_ACCMODE O_APPEND O_ASYNC O_CLOEXEC O_CREAT O_DIRECT O_DIRECTORY O_DSYNC O_EXCL O_LARGEFILE "
    "O_NDELAY O_NOATIME O_NOCTTY O_NOFOLLOW O_NONBLOCK O_PATH O_RDONLY O_RDWR O_RSYNC O_SYNC O_TMPFILE "
    "O_TRUNC O_WRONLY"
)
MODES = words(
    "S_IFBLK S_IFCHR S_IFDIR S_IFIFO S_IFLNK S_IFMT S_IFREG S_IFSOCK S_IRGRP S_IROTH S_IRUSR S_IRWXG "
    "S_IRWXO S_IRWXU S_ISGID S_ISUID S_ISVTX S_IWGRP S_IWOTH S_IWUSR S_IXGRP S_IXOTH S_IXUSR"
)
UNLINK_FLAGS = {"AT_REMOVEDIR": 0x200}
RENAME_FLAGS = {"RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4}
MOUNT_FLAGS = {
    "MS_RDONLY": 1,
    "MS_NOSUID": 2,
    "MS_NODEV": 4,
    "MS_NOEXEC": 8,
    "MS_REMOUNT": 32,
    "MS_BIND": 4096,
    "MS_MOVE": 8192,
    "MS_REC": 16384,
}
UMOUNT_FLAGS = {"MNT_FORCE": 1, "MNT_DETACH": 2, "MNT_EXPIRE": 4, "UMOUNT_NOFOLLOW": 8}
INODE_FLAGS = {
    "FS_SYNC_FL": 0x8,
    "FS_IMMUTABLE_FL": 0x10,
    "FS_APPEND_FL": 0x20,
    "FS_NODUMP_FL": 0x40,
    "FS_NOATIME_FL": 0x80,
}
EXIT_CAUSES = {"EXITED": 0, "COREDUMPED": 1, "SIGNALED": 2}
AUDIT = {"AUDIT_AUID_UNSET": 0xFFFFFFFF}

# An open with one of these flags may change or create the file.
WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@cache
def table() -> dict[str, int]:
    """Return all constants by name; error numbers are negative, as in return values."""
    values = {name: getattr(os, name, 0) for name in OPEN_FLAGS}
    values |= {name: getattr(stat, name) for name in MODES if name != "S_IFMT"}
    values["S_IFMT"] = 0o170000  # stat.S_IFMT is a function
    values |= UNLINK_FLAGS | RENAME_FLAGS | MOUNT_FLAGS | UMOUNT_FLAGS | INODE_FLAGS | EXIT_CAUSES | AUDIT
    values |= {name: int(item) for name, item in signal.Signals.__members__.items()}  # with SIGPOLL, SIGCLD
    return values | {name: -getattr(errno, name) for name in dir(errno) if name.startswith("E")}


def groups() -> list[tuple[str, list[str]]]:
    """Return the constants for the documentation: headings, each with its names."""
    return [
        ("open flags", OPEN_FLAGS),
        ("file modes", MODES),
        ("unlink flags", list(UNLINK_FLAGS)),
        ("rename flags", list(RENAME_FLAGS)),
        ("mount flags", list(MOUNT_FLAGS)),
        ("umount flags", list(UMOUNT_FLAGS)),
        ("flags of an inode", list(INODE_FLAGS)),
        ("causes of an exit", list(EXIT_CAUSES)),
        ("login users", list(AUDIT)),
        ("errors, negative", ["EPERM", "ENOENT", "EACCES", "..."]),
        ("signals", ["SIGHUP", "SIGKILL", "SIGTERM", "..."]),
    ]
