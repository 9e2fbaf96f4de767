"""Lists the system calls on files, their events and the meaning of their arguments.

The set `tracepoint` follows them all; the other sets, what a read-only mount refuses of a call by descriptor.

Positions of arguments count from 0. Numbers are those of the kernel's own tables, arch/x86/entry/syscalls and
include/uapi/asm-generic/unistd.h; they never change.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.events.model import EventType

NATIVE = 512  # FIM_CALLS: 32-bit calls follow from this index on in the map
ROW = struct.Struct("=12BI")  # struct fim_syscall

# Changes by a descriptor that ask for write access to the mount at once: fim_changes of bpf/read_only.h.
CHANGED = (EventType.CHOWN, EventType.SETXATTR, EventType.REMOVEXATTR, EventType.CHATTR)
_CHANGES, _CHANGE_BITS = 16, 10  # FIM_CHANGES, FIM_CHANGE_BITS

_CREATES = os.O_CREAT | os.O_WRONLY | os.O_TRUNC


class Call(NamedTuple):
    """One call: its event, and the positions of its arguments; None if it does not have the argument.

    `fd` is the descriptor of the object. `path` and `path2` are paths relative to `dfd` and `dfd2`. `name`
    and `source` are other texts of the event. `owner` is a user id, and the next argument is the group id.
    `how` points to openat2's flags and mode, to the flags of an inode, or to attributes of a mount. `always`
    are the flags that the call implies, or the type of what it creates.
    """

    event: EventType
    path: int | None = None
    dfd: int | None = None
    path2: int | None = None
    dfd2: int | None = None
    fd: int | None = None
    flags: int | None = None
    mode: int | None = None
    name: int | None = None
    source: int | None = None
    owner: int | None = None
    how: int | None = None
    always: int = 0

    def pack(self) -> bytes:
        """Return the call as `struct fim_syscall` of bpf/syscalls.h."""
        positions = (
            self.fd, self.path, self.path2, self.dfd, self.dfd2, self.flags, self.mode, self.name,
            self.source, self.owner, self.how,
        )  # fmt: skip
        numbers = (0 if position is None else position + 1 for position in positions)
        return ROW.pack(self.event + 1, *numbers, self.always)


_E = EventType
CALLS: dict[str, Call] = {
    "open": Call(_E.OPEN, 0, flags=1, mode=2),
    "creat": Call(_E.OPEN, 0, mode=1, always=_CREATES),
    "openat": Call(_E.OPEN, 1, 0, flags=2, mode=3),
    "openat2": Call(_E.OPEN, 1, 0, how=2),
    "close": Call(_E.CLOSE, fd=0),
    "unlink": Call(_E.UNLINK, 0),
    "unlinkat": Call(_E.UNLINK, 1, 0, flags=2),  # an rmdir with AT_REMOVEDIR
    "rmdir": Call(_E.RMDIR, 0),
    "mkdir": Call(_E.MKDIR, 0, mode=1),
    "mkdirat": Call(_E.MKDIR, 1, 0, mode=2),
    "rename": Call(_E.RENAME, 0, path2=1),
    "renameat": Call(_E.RENAME, 1, 0, 3, 2),
    "renameat2": Call(_E.RENAME, 1, 0, 3, 2, flags=4),
    "link": Call(_E.LINK, 0, path2=1),
    "linkat": Call(_E.LINK, 1, 0, 3, 2),
    "symlink": Call(_E.SYMLINK, 1, name=0),
    "symlinkat": Call(_E.SYMLINK, 2, 1, name=0),
    "mknod": Call(_E.MKNOD, 0, mode=1),
    "mknodat": Call(_E.MKNOD, 1, 0, mode=2),
    "bind": Call(_E.MKNOD, 1, always=stat.S_IFSOCK),  # of a path; bpf/calls.h looks at the address
    "truncate": Call(_E.TRUNCATE, 0),
    "ftruncate": Call(_E.TRUNCATE, fd=0),
    "chmod": Call(_E.CHMOD, 0, mode=1),
    "fchmod": Call(_E.CHMOD, fd=0, mode=1),
    "fchmodat": Call(_E.CHMOD, 1, 0, mode=2),
    "chown": Call(_E.CHOWN, 0, owner=1),
    "fchown": Call(_E.CHOWN, fd=0, owner=1),
    "fchownat": Call(_E.CHOWN, 1, 0, owner=2),
    "utime": Call(_E.UTIMES, 0),
    "futimesat": Call(_E.UTIMES, 1, 0),  # without a path the object is the descriptor
    "setxattr": Call(_E.SETXATTR, 0, name=1, flags=4),
    "fsetxattr": Call(_E.SETXATTR, fd=0, name=1, flags=4),
    "setxattrat": Call(_E.SETXATTR, 1, 0, name=3),
    "removexattr": Call(_E.REMOVEXATTR, 0, name=1),
    "fremovexattr": Call(_E.REMOVEXATTR, fd=0, name=1),
    "removexattrat": Call(_E.REMOVEXATTR, 1, 0, name=3),
    "ioctl": Call(_E.CHATTR, fd=0, how=2),  # bpf/calls.h looks at the command
    "file_setattr": Call(_E.CHATTR, 1, 0, how=2),
    "mount": Call(_E.MOUNT, 1, source=0, name=2, flags=3),
    "move_mount": Call(_E.MOUNT, 3, 2),
    "mount_setattr": Call(_E.MOUNT, 1, 0),
    "open_tree_attr": Call(_E.MOUNT, 1, 0, flags=2, how=3),  # bpf/calls.h looks at both
    "pivot_root": Call(_E.MOUNT, 1),
    "umount": Call(_E.UMOUNT, 0),
    "umount2": Call(_E.UMOUNT, 0, flags=1),
}
_SAME_ARGUMENTS = {
    "fchmodat": ("fchmodat2",),
    "chown": ("lchown", "chown32", "lchown32"),
    "fchown": ("fchown32",),
    "utime": ("utimes",),
    "futimesat": ("utimensat", "utimensat_time64"),
    "setxattr": ("lsetxattr",),
    "removexattr": ("lremovexattr",),
    "truncate": ("truncate64",),
    "ftruncate": ("ftruncate64",),
}
CALLS |= {twin: CALLS[name] for name, twins in _SAME_ARGUMENTS.items() for twin in twins}

_RECENT = {
    "move_mount": 429, "openat2": 437, "mount_setattr": 442, "fchmodat2": 452, "setxattrat": 463,
    "removexattrat": 466, "open_tree_attr": 467, "file_setattr": 469,
}  # fmt: skip
X86_64: dict[str, int] = _RECENT | {
    "open": 2, "close": 3, "truncate": 76, "ftruncate": 77, "rename": 82, "mkdir": 83, "rmdir": 84,
    "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91, "chown": 92,
    "fchown": 93, "lchown": 94, "utime": 132, "mknod": 133, "mount": 165, "umount2": 166, "setxattr":
    188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "fremovexattr":
    199, "utimes": 235, "openat": 257, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat":
    261, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268,
    "utimensat": 280, "renameat2": 316, "pivot_root": 155, "ioctl": 16, "bind": 49,
}  # fmt: skip
I386: dict[str, int] = _RECENT | {
    "open": 5, "close": 6, "creat": 8, "link": 9, "unlink": 10, "mknod": 14, "chmod": 15, "lchown": 16,
    "mount": 21, "umount": 22, "utime": 30, "rename": 38, "mkdir": 39, "rmdir": 40, "umount2": 52,
    "symlink": 83, "truncate": 92, "ftruncate": 93, "fchmod": 94, "fchown": 95, "chown": 182,
    "truncate64": 193, "ftruncate64": 194, "lchown32": 198, "fchown32": 207, "chown32": 212, "setxattr":
    226, "lsetxattr": 227, "fsetxattr": 228, "removexattr": 235, "lremovexattr": 236, "fremovexattr":
    237, "utimes": 271, "openat": 295, "mkdirat": 296, "mknodat": 297, "fchownat": 298, "futimesat":
    299, "unlinkat": 301, "renameat": 302, "linkat": 303, "symlinkat": 304, "fchmodat": 306,
    "utimensat": 320, "renameat2": 353, "pivot_root": 217, "utimensat_time64": 412,
    "ioctl": 54, "bind": 361,
}  # fmt: skip
ARM64: dict[str, int] = _RECENT | {
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15,
    "fremovexattr": 16, "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37,
    "renameat": 38, "umount2": 39, "mount": 40, "truncate": 45, "ftruncate": 46, "fchmod": 52,
    "fchmodat": 53, "fchownat": 54, "fchown": 55, "openat": 56, "close": 57, "utimensat": 88,
    "renameat2": 276, "pivot_root": 41, "ioctl": 29, "bind": 200,
}  # fmt: skip

# By machine (`uname -m`): the native table, and the table of 32-bit calls if it is known.
MACHINES: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "x86_64": (X86_64, I386),
    "aarch64": (ARM64, {}),
}


def rows(machine: str, events: frozenset[EventType]) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of the map `syscalls` for these events: index and `struct fim_syscall`."""
    for offset, numbers in zip((0, NATIVE), MACHINES[machine], strict=True):
        for name, number in numbers.items():
            if events & _events(name):
                yield offset + number, CALLS[name].pack()


def changes(machine: str) -> bytes:
    """Return `fim_changes`: of each such call its index in the map `syscalls`, and its event type.

    It is empty for a machine whose calls are not known: nothing is seen there of these refusals.
    """
    known = [
        CALLS[name].event + 1 << _CHANGE_BITS | offset + number
        for offset, numbers in zip((0, NATIVE), MACHINES.get(machine, ({}, {})), strict=True)
        for name, number in numbers.items()
        if CALLS[name].fd is not None and CALLS[name].event in CHANGED
    ]
    return struct.pack(f"={_CHANGES}H", *known, *[0] * (_CHANGES - len(known)))


def _events(name: str) -> set[EventType]:
    """Return the possible events of a call: an unlinkat can be an rmdir."""
    event = CALLS[name].event
    return {event, EventType.RMDIR} if name == "unlinkat" else {event}
