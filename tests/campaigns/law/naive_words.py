"""The words of docs/rules.md for the naive evaluator: fields with types, constants with numbers.

Its tables repeat those of `agent.rules` on purpose: an evaluator that shared them would share their mistakes.
"""

from __future__ import annotations

import errno
import re
import signal
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "docs" / "rules.md"

# Events that change a file, and the files of each that `fim.write.file` stands for.
WRITES: Mapping[str, tuple[str, ...]] = {
    **{
        event: (f"{event}.file",)
        for event in (
            *("open", "unlink", "rmdir", "mkdir", "symlink", "mknod", "truncate"),
            *("chmod", "chown", "utimes", "setxattr", "removexattr", "chattr"),
        )
    },
    "rename": ("rename.file", "rename.file.destination"),
    "link": ("link.file", "link.file.destination"),
}

# x86-64, as fcntl(2) and the kernel's headers have them.
OPEN_FLAGS = {
    "O_RDONLY": 0,
    "O_WRONLY": 0o1,
    "O_RDWR": 0o2,
    "O_ACCMODE": 0o3,
    "O_CREAT": 0o100,
    "O_EXCL": 0o200,
    "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,
    "O_NDELAY": 0o4000,
    "O_DSYNC": 0o10000,
    "O_ASYNC": 0o20000,
    "O_DIRECT": 0o40000,
    "O_LARGEFILE": 0,
    "O_DIRECTORY": 0o200000,
    "O_NOFOLLOW": 0o400000,
    "O_NOATIME": 0o1000000,
    "O_CLOEXEC": 0o2000000,
    "O_SYNC": 0o4010000,
    "O_RSYNC": 0o4010000,
    "O_PATH": 0o10000000,
    "O_TMPFILE": 0o20200000,
}
OTHERS = {
    "AT_REMOVEDIR": 0x200,
    "RENAME_NOREPLACE": 1,
    "RENAME_EXCHANGE": 2,
    "RENAME_WHITEOUT": 4,
    "MS_RDONLY": 1,
    "MS_NOSUID": 2,
    "MS_NODEV": 4,
    "MS_NOEXEC": 8,
    "MS_REMOUNT": 32,
    "MS_BIND": 4096,
    "MS_MOVE": 8192,
    "MS_REC": 16384,
    "MNT_FORCE": 1,
    "MNT_DETACH": 2,
    "MNT_EXPIRE": 4,
    "UMOUNT_NOFOLLOW": 8,
    "FS_SYNC_FL": 0x8,
    "FS_IMMUTABLE_FL": 0x10,
    "FS_APPEND_FL": 0x20,
    "FS_NODUMP_FL": 0x40,
    "FS_NOATIME_FL": 0x80,
    "EXITED": 0,
    "COREDUMPED": 1,
    "SIGNALED": 2,
    "AUDIT_AUID_UNSET": 0xFFFFFFFF,
}


@cache
def fields() -> Mapping[str, str]:
    """Return the type of each field of the page, such as `list of ints`, by its name."""
    text = (
        PAGE.read_text(encoding="utf-8").split("<!-- begin: fields -->")[1].split("<!-- end: fields -->")[0]
    )
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \| ([a-z ]+) \|", text, re.MULTILINE)
    return dict(rows)


@cache
def event_types() -> frozenset[str]:
    """Return the event types: the headings of the page's table of fields."""
    text = (
        PAGE.read_text(encoding="utf-8").split("<!-- begin: fields -->")[1].split("<!-- end: fields -->")[0]
    )
    return frozenset(re.findall(r"^### ([a-z]+)$", text, re.MULTILINE))


@cache
def constants() -> Mapping[str, int]:
    """Return the number of each constant of the page."""
    modes = {name: getattr(stat, name) for name in dir(stat) if name.startswith("S_I") and name.isupper()}
    return {
        **{name: number for name, number in modes.items() if isinstance(number, int)},
        "S_IFMT": 0o170000,
        **{name: -getattr(errno, name) for name in dir(errno) if name.startswith("E")},
        **{name: int(number) for name, number in signal.Signals.__members__.items()},
        **OPEN_FLAGS,
        **OTHERS,
    }
