"""Lists the kernel functions, LSM hooks and tracepoints that programs are attached to.

A *point* is one of them, for which `bpf/points.h` has programs. Its candidates are the names that the
function has had, newest first; the loader uses the one that the running kernel has. A *hook* is a point in
one phase of an operation (see `bpf/operation.h`), written `POINT.PHASE`:

    enter     the operation begins; its object may be known already
    given     the operation receives more data: the text of a name, or a mount
    resolve   the object is known
    exit      the return value is known
    once      all of these at the same time

All system calls together are one point, `syscall`, with phases enter and exit: one pair of programs serves
all system calls of `agent/hooks/syscalls.py`.
"""

from __future__ import annotations

from typing import NamedTuple

# Functions with an entry and a return, in the order of `enum fim_point`. filename_* and do_file_open are 7.0.
POINTS: dict[str, tuple[str, ...]] = {
    "open": ("do_file_open", "do_filp_open"),
    "open_root": ("do_file_open_root",),
    "unlink": ("filename_unlinkat", "do_unlinkat"),
    "rmdir": ("filename_rmdir", "do_rmdir"),
    "mkdir": ("filename_mkdirat", "do_mkdirat"),
    "rename": ("filename_renameat2", "do_renameat2"),
    "link": ("filename_linkat", "do_linkat"),
    "symlink": ("filename_symlinkat", "do_symlinkat"),
    "mknod": ("filename_mknodat", "do_mknodat"),
    "truncate": ("vfs_truncate",),
    "ftruncate": ("do_ftruncate", "do_sys_ftruncate"),
    "chmod": ("chmod_common",),
    "chown": ("chown_common",),
    "utimes": ("vfs_utimes",),
    "setxattr": ("vfs_setxattr",),
    "removexattr": ("vfs_removexattr",),
    "set_acl": ("vfs_set_acl",),
    "remove_acl": ("vfs_remove_acl",),
    "mount": ("path_mount",),
    "umount": ("path_umount",),
    "move_mount": ("__x64_sys_move_mount", "__arm64_sys_move_mount", "__do_sys_move_mount"),
    "truncate_path": ("__x64_sys_truncate", "__arm64_sys_truncate", "__do_sys_truncate"),
    "chmod_path": ("do_fchmodat",),
    "chown_path": ("do_fchownat",),
    "utimes_path": ("do_utimes",),
    "setxattr_path": ("path_setxattrat", "path_setxattr"),
    "removexattr_path": ("path_removexattrat", "path_removexattr"),
    "exec_open": ("do_open_execat",),
    "move_mount32": ("__ia32_sys_move_mount",),
    "mount_setattr": ("__x64_sys_mount_setattr", "__arm64_sys_mount_setattr"),
    "mount_setattr32": ("__ia32_sys_mount_setattr",),
    "pivot_root": ("__x64_sys_pivot_root", "__arm64_sys_pivot_root"),
    "pivot_root32": ("__ia32_sys_pivot_root",),
    "reconfigure": ("reconfigure_super",),
    "chattr": ("vfs_fileattr_set",),
    "chattr_path": ("__x64_sys_file_setattr", "__arm64_sys_file_setattr"),
    "ioctl": ("__x64_sys_ioctl", "__arm64_sys_ioctl"),
    "ioctl32": ("__ia32_compat_sys_ioctl", "__arm64_compat_sys_ioctl"),
    "bind": ("unix_bind",),
    "parent": ("__filename_parentat", "filename_parentat"),
    "open_tree_attr": ("__x64_sys_open_tree_attr", "__arm64_sys_open_tree_attr"),
    "open_tree_attr32": ("__ia32_sys_open_tree_attr",),
    "want_write_file": ("mnt_want_write_file",),
}

MAX_POINTS = 64  # FIM_POINTS

# A function of kernels on which kprobe.multi has room for the return of each call. Before 6.14 a return takes
# one of a few nodes, two for each CPU, until the call ends: calls that sleep, such as the open of a FIFO, use
# them up, and the kernel loses the returns of all others ("fprobe: Rewrite fprobe on function-graph tracer").
# The function at the entry, which came with it, has had two names since: fprobe_entry, fprobe_fgraph_entry.
KEEPS_RETURNS = "fprobe_return"

# Functions with an entry only, which other operations pass.
GIVEN: dict[str, tuple[str, ...]] = {
    "may_open": ("may_open",),
    "walked": ("complete_walk",),
    "installed": ("fd_install",),
    "parent": ("__filename_parentat", "filename_parentat"),
    "lookup": ("filename_lookup",),
    "want_write": ("mnt_want_write",),
    "want_write_file": ("mnt_want_write_file",),
    "drop_write": ("mnt_drop_write",),
    "signal": ("signal_setup_done",),
    "drop_write_file": ("mnt_drop_write_file",),
}
ONCE: dict[str, tuple[str, ...]] = {
    "close": ("__fput",),
    "unmounted": ("cleanup_mnt",),
    "freed": ("security_inode_free",),
    "moved": ("d_move",),
    "exchanged": ("d_exchange",),
    "linked": ("security_inode_link",),
    "unlinked": ("security_inode_unlink",),
    "exec": ("finalize_exec",),
    "fork": ("wake_up_new_task",),
    "exit": ("taskstats_exit",),
}
SYSCALL = "syscall"
SYSCALLS = {"enter": "raw_syscalls/sys_enter", "exit": "raw_syscalls/sys_exit"}
TRACEPOINTS: dict[str, str] = {
    "exec": "sched_process_exec",
    "fork": "sched_process_fork",
    "exit": "sched_process_exit",
}


class Resolve(NamedTuple):
    """The LSM hook at which an operation's object is known, and the function that calls it.

    Each has the names that kernels gave it, newest first.
    """

    lsm: tuple[str, ...]
    functions: tuple[str, ...]


RESOLVES: dict[str, Resolve] = {
    "open": Resolve(("file_open",), ("security_file_open",)),
    "unlink": Resolve(("path_unlink",), ("security_path_unlink",)),
    "rmdir": Resolve(("path_rmdir",), ("security_path_rmdir",)),
    "mkdir": Resolve(("path_mkdir",), ("security_path_mkdir",)),
    "rename": Resolve(("path_rename",), ("security_path_rename",)),
    "link": Resolve(("path_link",), ("security_path_link",)),
    "symlink": Resolve(("path_symlink",), ("security_path_symlink",)),
    "mknod": Resolve(("path_mknod",), ("security_path_mknod",)),
    "ftruncate": Resolve(
        ("file_truncate", "path_truncate"), ("security_file_truncate", "security_path_truncate")
    ),
    "ioctl": Resolve(("file_ioctl",), ("security_file_ioctl",)),
    "ioctl32": Resolve(("file_ioctl_compat",), ("security_file_ioctl_compat",)),
    "move_mount": Resolve(("move_mount",), ("security_move_mount",)),
    "pivot_root": Resolve(("sb_pivotroot",), ("security_sb_pivotroot",)),
}

# The hook that sees what the return from an open would have shown, where the kernel may lose returns: those
# of kretprobes (agent/kernel/tracefs.py).
AFTER_LOST_RETURN = "installed.given"

# The point that `kernel/capabilities.py` attaches a program of each type to, to see whether the type works.
PROBED = "open"

# The parameters that programs read, by position. A function that has one of them at another position has
# drifted; a parameter with an unknown name has not, because kernels rename parameters. The programs skip a
# first parameter of LEADING themselves.
_ENTRY = ("dir", "dentry")
_XATTR = ("dentry", "name", "value", "size", "flags")
_ACL = ("dentry", "acl_name")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "open.enter": ("dfd", "pathname", "op"),
    "open.resolve": ("file",),
    "exec_open.enter": ("fd", "name"),
    "may_open.given": ("path",),
    "walked.given": ("nd",),
    "installed.given": ("fd", "file"),
    "unlink.resolve": _ENTRY,
    "rmdir.resolve": _ENTRY,
    "mkdir.enter": ("dfd", "name", "mode"),
    "mknod.enter": ("dfd", "name", "mode"),
    "mkdir.resolve": (*_ENTRY, "mode"),
    "mknod.resolve": (*_ENTRY, "mode"),
    "symlink.resolve": (*_ENTRY, "old_name"),
    "rename.enter": ("olddfd", "from", "newdfd", "to", "flags"),
    "rename.resolve": ("old_dir", "old_dentry", "new_dir", "new_dentry"),
    "link.enter": ("olddfd", "old"),
    "link.resolve": ("old_dentry", "new_dir", "new_dentry"),
    "parent.given": ("dfd", "name", "flags", "parent"),
    "lookup.given": ("dfd", "name", "flags", "path"),
    "chmod_path.enter": ("dfd", "filename", "mode"),
    "chown_path.enter": ("dfd", "filename", "user", "group"),
    "truncate.enter": ("path",),
    "ftruncate.enter": ("file",),
    "chmod.enter": ("path", "mode"),
    "chown.enter": ("path", "user", "group"),
    "utimes.enter": ("path",),
    "setxattr.enter": _XATTR,
    "removexattr.enter": _XATTR[:2],
    "set_acl.enter": _ACL,
    "remove_acl.enter": _ACL,
    "want_write_file.given": ("file",),
    "signal.given": ("failed", "ksig"),
    "mount.enter": ("dev_name", "path", "type_page", "flags"),
    "umount.enter": ("path", "flags"),
    "chattr.enter": ("dentry", "fa"),
    "ioctl.resolve": ("file", "cmd", "arg"),
    "ioctl32.resolve": ("file", "cmd", "arg"),
    "move_mount.resolve": ("from_path", "to_path"),
    "pivot_root.resolve": ("old_path", "new_path"),
    "reconfigure.enter": ("fc",),
    "close.once": ("file",),
    "exec.once": ("bprm",),
    "freed.once": ("inode",),
    "moved.once": ("dentry", "target"),
    "exchanged.once": ("dentry1", "dentry2"),
    "linked.once": ("old_dentry",),
    "unlinked.once": ("dir", "dentry"),
}
LEADING = ("mnt_userns", "idmap")

# Functions that take a descriptor where the other candidates of their point take the file.
BY_DESCRIPTOR = frozenset({"do_sys_ftruncate"})

# LSM hooks, and the functions that call them, which take a file where the other candidates take its path.
OF_FILE = frozenset({"file_truncate", "security_file_truncate"})

# `link.enter` takes a name that the kernel has already copied if its function has this parameter.
LINK_BY_FILENAME = "old"

# The kernel calls the LSM hook of a rename once for an exchange if the hook has this parameter, else twice.
EXCHANGE_ONCE = "flags"


def drift(hook: str, parameters: tuple[str, ...]) -> str:
    """Describe a parameter that is not where the hook's program reads it; empty if all are."""
    here = parameters[1:] if parameters[:1] and parameters[0] in LEADING else parameters
    for position, name in enumerate(ARGUMENTS.get(hook, ())):
        if name in here and here.index(name) != position:
            return f"its argument {name} is number {here.index(name) + 1} here, not {position + 1}"
    return ""
