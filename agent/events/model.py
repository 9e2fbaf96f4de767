"""Defines a decoded event.

Event types are bit numbers: an event mask is the sum of `1 << type`. The numbers are part of the wire format,
`bpf/event.h`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class EventType(enum.IntEnum):
    """The type of an event; the value is the bit number in event masks."""

    OPEN = 0
    CLOSE = 1  # close of a file that was open for writing
    UNLINK = 2
    RMDIR = 3
    MKDIR = 4
    RENAME = 5
    LINK = 6
    SYMLINK = 7
    MKNOD = 8
    TRUNCATE = 9
    CHMOD = 10
    CHOWN = 11
    UTIMES = 12
    SETXATTR = 13
    REMOVEXATTR = 14
    MOUNT = 15
    UMOUNT = 16
    EXEC = 17
    FORK = 18
    EXIT = 19
    CHATTR = 20

    @property
    def mask(self) -> int:
        """The bit of this type in an event mask."""
        return 1 << self.value

    @property
    def label(self) -> str:
        """The name used in rules and reports."""
        return _LABELS[self]


_LABELS = tuple(kind.name.lower() for kind in EventType)  # `name` of an enumeration is slow

# Events of processes. The kernel forwards all of them, because the process cache needs them.
PROCESS_EVENTS = (EventType.EXEC, EventType.FORK, EventType.EXIT)
TWO_PATHS = (EventType.RENAME, EventType.LINK)  # the old name and the new one


class FileFlags(enum.IntFlag):
    """How a path was resolved, and where the file lies."""

    NONE = 0
    TRUNCATED = 1  # more than 4,096 bytes or 256 components: the path has no beginning
    AS_GIVEN = 2  # the caller's text, because the kernel did not resolve it or only the call was seen
    DETACHED = 4  # in no mount namespace (lazily unmounted, internal mounts): the path has no beginning
    UPPER = 8  # overlayfs: the file lies in the upper layer
    LOWER = 16  # overlayfs: the file lies in a lower layer
    CREATED = 32  # this event created the file
    DELETED = 64  # the name was removed (opened through /proc, deleted directory): the path is its last one


@dataclass(slots=True)
class File:
    """One file: `path` is the one in the mount namespace of the process.

    `identities` and `epochs` are of the file's inode and of up to three directories above it, for discarders;
    the identity of what must not be discarded is 0.
    """

    path: bytes = b""
    inode: int = 0
    device: int = 0
    mount_id: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    nlink: int = 0
    flags: FileFlags = FileFlags.NONE
    identities: tuple[int, ...] = (0, 0, 0, 0)
    epochs: tuple[int, ...] = (0, 0, 0, 0)

    @property
    def name(self) -> bytes:
        """The last component."""
        return self.path.rsplit(b"/", 1)[-1]


@dataclass(slots=True)
class Event:
    """One decoded record: time in ns of CLOCK_BOOTTIME, `retval` 0 or more on success, -errno on refusal."""

    type: EventType
    time_ns: int = 0
    pid: int = 0  # process (the kernel calls it tgid)
    tid: int = 0
    ppid: int = 0
    uid: int = 0
    gid: int = 0
    auid: int = 0
    comm: bytes = b""
    cgroup_id: int = 0
    mount_ns: int = 0
    retval: int = 0
    flags: int = 0  # open flags, unlink flags, rename flags, umount flags, flags of an inode
    mode: int = 0  # requested mode: open, mkdir, mknod, chmod
    file: File = field(default_factory=File)
    file2: File | None = None  # destination of rename, link; script of an exec that runs an interpreter
    name: bytes = b""  # xattr name, symlink text, file system type of a mount
    source: bytes = b""  # mount source
    new_uid: int = 0  # chown
    new_gid: int = 0  # chown
    generation: int = 0  # discarder generation read before the path was resolved
    serial: int = 0  # number of the kernel policy that filtered it
    program: int = 0  # family of the program that saw the file: `hooks.FAMILIES`
    args: tuple[bytes, ...] = ()  # exec
    args_truncated: bool = False  # exec: arguments are missing at the end
    exit_code: int = 0  # exit
    root: bytes = b""  # root directory of the process in its mount namespace; empty if unknown
    child_pid: int = 0  # fork
