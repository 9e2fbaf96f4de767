"""What each call of the generator's language does, from the manual pages: its arguments by their places.

Places count the words behind the call's name. A path that is not `follow`ed stands for the link itself.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Meaning:
    """One call: its event, and the places of its arguments; None if it has no such argument."""

    event: str
    file: int | None = None
    follow: bool = False
    fd: int | None = None
    file2: int | None = None
    flags: int | None = None
    nofollow: int | None = None  # place of flags in which AT_SYMLINK_NOFOLLOW keeps it from following
    mode: int | None = None
    owner: int | None = None
    name: int | None = None  # of an attribute, the text of a link
    fs_type: int | None = None
    source: int | None = None
    always: str = ""  # flags that the call stands for


_OPEN = {
    "open": Meaning("open", 0, True, flags=1, mode=2),
    "open32": Meaning("open", 0, True, flags=1, mode=2),
    "creat": Meaning("open", 0, True, mode=1, always="O_CREAT|O_WRONLY|O_TRUNC"),
    "openat": Meaning("open", 1, True, flags=2, mode=3),
    "openat2": Meaning("open", 1, True, flags=2, mode=3),
    "ring_openat": Meaning("open", 1, True, flags=2, mode=3),
    "ring_openat2": Meaning("open", 1, True, flags=2, mode=3),
    "open_handle": Meaning("open", 0, True, flags=1),
}
_NAMES = {
    "unlink": Meaning("unlink", 0),
    "unlink32": Meaning("unlink", 0),
    "unlinkat": Meaning("unlink", 1, flags=2),
    "ring_unlinkat": Meaning("unlink", 1, flags=2),
    "rmdir": Meaning("rmdir", 0),
    "rmdir32": Meaning("rmdir", 0),
    "mkdir": Meaning("mkdir", 0, mode=1),
    "mkdir32": Meaning("mkdir", 0, mode=1),
    "mkdirat": Meaning("mkdir", 1, mode=2),
    "ring_mkdirat": Meaning("mkdir", 1, mode=2),
    "rename": Meaning("rename", 0, file2=1),
    "rename32": Meaning("rename", 0, file2=1),
    "renameat": Meaning("rename", 1, file2=3),
    "renameat2": Meaning("rename", 1, file2=3, flags=4),
    "ring_renameat": Meaning("rename", 1, file2=3),
    "link": Meaning("link", 0, file2=1),
    "link32": Meaning("link", 0, file2=1),
    "linkat": Meaning("link", 1, file2=3, flags=4),
    "ring_linkat": Meaning("link", 1, file2=3),
    "symlink": Meaning("symlink", 1, name=0),
    "symlink32": Meaning("symlink", 1, name=0),
    "symlinkat": Meaning("symlink", 2, name=0),
    "ring_symlinkat": Meaning("symlink", 2, name=0),
    "mknod": Meaning("mknod", 0, mode=1),
    "mknodat": Meaning("mknod", 1, mode=2),
}
_ATTRIBUTES = {
    "truncate": Meaning("truncate", 0, True),
    "truncate32": Meaning("truncate", 0, True),
    "ftruncate": Meaning("truncate", fd=0),
    "chmod": Meaning("chmod", 0, True, mode=1),
    "chmod32": Meaning("chmod", 0, True, mode=1),
    "fchmod": Meaning("chmod", fd=0, mode=1),
    "fchmodat": Meaning("chmod", 1, True, mode=2),
    "fchmodat2": Meaning("chmod", 1, True, mode=2, nofollow=3),
    "chown": Meaning("chown", 0, True, owner=1),
    "lchown": Meaning("chown", 0, owner=1),
    "fchown": Meaning("chown", fd=0, owner=1),
    "fchownat": Meaning("chown", 1, True, owner=2, nofollow=4),
    "utimensat": Meaning("utimes", 1, True, nofollow=3),
    "setxattr": Meaning("setxattr", 0, True, name=1),
    "lsetxattr": Meaning("setxattr", 0, name=1),
    "fsetxattr": Meaning("setxattr", fd=0, name=1),
    "ring_setxattr": Meaning("setxattr", 0, True, name=1),
    "setxattrat": Meaning("setxattr", 1, True, nofollow=2, name=3),
    "removexattr": Meaning("removexattr", 0, True, name=1),
    "lremovexattr": Meaning("removexattr", 0, name=1),
    "fremovexattr": Meaning("removexattr", fd=0, name=1),
    "removexattrat": Meaning("removexattr", 1, True, nofollow=2, name=3),
}
_OTHERS = {
    "mount": Meaning("mount", 1, True, flags=3, fs_type=2, source=0),
    "move_mount": Meaning("mount", 3, True),
    "umount": Meaning("umount", 0, True),
    "umount2": Meaning("umount", 0, True, flags=1),
    "close": Meaning("close", fd=0),
    "exec": Meaning("exec", 0, True),
    "execveat": Meaning("exec", 1, True),
}

CALLS = {**_OPEN, **_NAMES, **_ATTRIBUTES, **_OTHERS}

# Calls by which a path may afterwards stand for another object than the probes of a program say.
ALIASING = frozenset({
    "link", "link32", "linkat", "ring_linkat", "mount", "move_mount", "umount", "umount2", "pivot_root",
    "chroot", "unshare", "setns",
})  # fmt: skip
