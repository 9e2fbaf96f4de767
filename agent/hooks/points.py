"""Where programs are attached, and which are needed for what: all of it data.

A *point* is a kernel function (or LSM hook, or tracepoint) that programs of `bpf/points.h` are made for; its
candidates are the names that the function has had, the newest first, and the one that the running kernel has
is taken. A *hook* is a point in one phase of an operation (see `bpf/operation.h`):

    enter     a request begins; its object may be known already
    given     something is learned for it: a name's text, a mount
    resolve   its object is known
    exit      its return value is known
    once      all of that at the same time

System calls are a point of their own, `syscall`, entered and left: one pair of programs for all that
`agent/hooks/syscalls.py` lists.

A *set* says which program type serves each phase. `auto` climbs down a ladder of sets for each event.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from agent.events.model import EventType

# Points that are entered and left, in the order of `enum fim_point`. filename_* and do_file_open are 7.0.
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
}

MAX_POINTS = 32  # FIM_POINTS

# Phases whose program, when the kernel skips it, makes the event invisible. One that is skipped at the return
# shows as `abandoned` or `unentered`, and the caller's text is no event.
BLINDING = ("enter", "resolve", "once")

# Functions that are given a descriptor where others of their point are given the file.
BY_DESCRIPTOR = frozenset({"do_sys_ftruncate"})

# Parameters by which it is told whether a function is given a name that the kernel has copied already.
LINK_BY_FILENAME = "old"

# The parameter by which it is told whether the LSM hook of a rename is called but once for an exchange.
EXCHANGE_ONCE = "flags"

# Points that are only passed.
GIVEN: dict[str, tuple[str, ...]] = {
    "parent": ("__filename_parentat", "filename_parentat"),
    "lookup": ("filename_lookup",),
    "want_write": ("mnt_want_write",),
    "want_write_file": ("mnt_want_write_file",),
}
ONCE: dict[str, tuple[str, ...]] = {
    "close": ("__fput",),
    "unmounted": ("cleanup_mnt",),
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
    """Where the object becomes known: the LSM hook, and the function that calls it."""

    lsm: str
    function: str


RESOLVES: dict[str, Resolve] = {
    "open": Resolve("file_open", "security_file_open"),
    "unlink": Resolve("path_unlink", "security_path_unlink"),
    "rmdir": Resolve("path_rmdir", "security_path_rmdir"),
    "mkdir": Resolve("path_mkdir", "security_path_mkdir"),
    "rename": Resolve("path_rename", "security_path_rename"),
    "link": Resolve("path_link", "security_path_link"),
    "symlink": Resolve("path_symlink", "security_path_symlink"),
    "mknod": Resolve("path_mknod", "security_path_mknod"),
    "move_mount": Resolve("move_mount", "security_move_mount"),
}

# The parameters that programs read, by their places: a function that has one of them elsewhere has drifted.
# What some kernels put before all else (LEADING) is looked for by the programs themselves. Other names are no
# drift: a parameter may be called something else from one kernel to the next.
_ENTRY = ("dir", "dentry")
_XATTR = ("dentry", "name", "value", "size", "flags")
_ACL = ("dentry", "acl_name")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "open.enter": ("dfd", "pathname", "op"),
    "open.resolve": ("file",),
    "unlink.resolve": _ENTRY,
    "rmdir.resolve": _ENTRY,
    "mkdir.resolve": (*_ENTRY, "mode"),
    "mknod.resolve": (*_ENTRY, "mode"),
    "symlink.resolve": (*_ENTRY, "old_name"),
    "rename.enter": ("olddfd", "from", "newdfd", "to", "flags"),
    "rename.resolve": ("old_dir", "old_dentry", "new_dir", "new_dentry"),
    "link.enter": ("olddfd", "old"),
    "link.resolve": ("old_dentry", "new_dir", "new_dentry"),
    "parent.given": ("dfd", "name"),
    "lookup.given": ("dfd", "name"),
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
    "mount.enter": ("dev_name", "path", "type_page", "flags"),
    "umount.enter": ("path", "flags"),
    "move_mount.resolve": ("from_path", "to_path"),
    "close.once": ("file",),
    "exec.once": ("bprm",),
}
LEADING = ("mnt_userns", "idmap")

# Which program type serves a phase, a set at a time; `task` serves what happens to processes, `syscall` what
# is seen of system calls alone.
_PHASES = ("enter", "given", "once", "resolve", "exit", "task")
SETS: dict[str, dict[str, str]] = {
    "lsm": dict(zip(_PHASES, ("fentry", "fentry", "fentry", "lsm", "fexit", "raw_tp"), strict=True)),
    "fentry": dict(zip(_PHASES, ("fentry", "fentry", "fentry", "fentry", "fexit", "raw_tp"), strict=True)),
    "kprobe": dict(
        zip(_PHASES, ("kprobe", "kprobe", "kprobe", "kprobe", "kretprobe", "kprobe"), strict=True)
    ),
}
SETS["kprobe-multi"] = {phase: f"{kind}_multi" for phase, kind in SETS["kprobe"].items()}
BCC = "bcc"  # the same as `kprobe`, compiled on the spot: what is left where there is no type information
SETS[BCC] = SETS["kprobe"]
SETS["tracepoint"] = {SYSCALL: "tracepoint", "task": "raw_tp"}
RAW_TRACEPOINT = "raw_tp"
TRACEPOINT = "tracepoint"

# Kinds that are called over a trampoline, which needs the kernel's own type information.
TRAMPOLINES = ("lsm", "fentry", "fexit")

# Kinds whose capability is that of another.
CAPABILITIES = {"kretprobe_multi": "kprobe_multi"}

# What `auto` tries, in this order. A program on a trampoline that was preempted hides whatever runs into it
# on the same CPU, up to a tenth of all events, where the kernel preempts itself: `skips`. Raw tracepoints do
# it too on 7.3. Kprobes run with preemption off.
LADDER = ("lsm", "fentry", "kprobe", "tracepoint")
LADDER_SKIPPING = ("kprobe", "lsm", "fentry", "tracepoint")
AUTO = "auto"
HOOKSETS = (AUTO, *SETS)

# enum fim_family: what `Event.program` says.
FAMILIES = ("", "lsm", "fentry", "kprobe", "kprobe-multi", "tracepoint", "bcc")


_FAMILY_OF = {
    "lsm": ("lsm",),
    "fentry": ("fentry",),
    "fexit": ("fentry",),
    "kprobe": ("kprobe", BCC),  # which of the two depends on who compiled them
    "kretprobe": ("kprobe", BCC),
    "kprobe_multi": ("kprobe-multi",),
    "kretprobe_multi": ("kprobe-multi",),
    RAW_TRACEPOINT: ("tracepoint",),
    TRACEPOINT: ("tracepoint",),
}


def families(kinds: Iterable[str]) -> set[str]:
    """What events say of the programs of these kinds; of a kind that is no kernel's, nothing."""
    return {family for kind in kinds for family in _FAMILY_OF.get(kind, ("",))}


class Hooks(NamedTuple):
    """A selector: `rule` is `all of`, `one of` or `best effort` over hooks and other selectors."""

    rule: str
    parts: tuple[Selector, ...]


Selector = str | Hooks


def all_of(*parts: Selector) -> Hooks:
    """Every part is needed."""
    return Hooks("all of", parts)


def one_of(*parts: Selector) -> Hooks:
    """Any part will do, and the earlier ones are better."""
    return Hooks("one of", parts)


def best_effort(*parts: Selector) -> Hooks:
    """Whatever can be had."""
    return Hooks("best effort", parts)


class Needs(NamedTuple):
    """What an event type needs: without `minimum` it is not seen at all, without `wanted` not whole."""

    minimum: Selector
    wanted: Selector = best_effort()
    extra: Selector = best_effort()


def _returns(point: str) -> Hooks:
    return all_of(f"{point}.enter", f"{point}.exit")


def _resolved(point: str) -> Hooks:
    return all_of(f"{point}.enter", f"{point}.resolve", f"{point}.exit")


_CALLS = _returns(SYSCALL)
SYSCALL_HOOKS = tuple(str(part) for part in _CALLS.parts)


def _needs(whole: Selector, *wanted: Selector, extra: Selector | None = None) -> Needs:
    """What sees an event whole and, at the least, its system calls, in the caller's words."""
    return Needs(one_of(whole, _CALLS), all_of(whole, *wanted), extra or best_effort())


def _named(point: str) -> Needs:
    """Operations on names: without `parent.given`, what is refused in the lookup is not seen."""
    return _needs(_resolved(point), "parent.given")


def _looked_up(point: str, *wanted: Selector, whole: Selector | None = None, **more: Hooks) -> Needs:
    """Operations on what a name stands for: without these, what is refused in the lookup is not seen."""
    by_name = all_of(_returns(f"{point}_path"), "lookup.given")
    return _needs(whole or _returns(point), by_name, *wanted, **more)


_MOUNTS = all_of("want_write.given", "want_write_file.given")

EVENTS: dict[EventType, Needs] = {
    EventType.OPEN: _needs(_resolved("open"), _returns("open_root")),
    EventType.CLOSE: _needs("close.once"),
    EventType.UNLINK: _named("unlink"),
    EventType.RMDIR: _named("rmdir"),
    EventType.MKDIR: _named("mkdir"),
    EventType.RENAME: _named("rename"),
    EventType.LINK: _needs(_resolved("link"), "parent.given", "lookup.given"),
    EventType.SYMLINK: _named("symlink"),
    EventType.MKNOD: _named("mknod"),
    EventType.TRUNCATE: _looked_up("truncate", _returns("ftruncate")),
    EventType.CHMOD: _looked_up("chmod"),
    EventType.CHOWN: _looked_up("chown"),
    EventType.UTIMES: _looked_up("utimes"),
    EventType.SETXATTR: _looked_up(
        "setxattr", whole=all_of(_returns("setxattr"), _MOUNTS), extra=_returns("set_acl")
    ),
    EventType.REMOVEXATTR: _looked_up(
        "removexattr", whole=all_of(_returns("removexattr"), _MOUNTS), extra=_returns("remove_acl")
    ),
    EventType.MOUNT: _needs(_returns("mount"), _resolved("move_mount")),
    EventType.UMOUNT: _needs(_returns("umount"), "unmounted.once"),
    EventType.EXEC: Needs("exec.once"),
    EventType.FORK: Needs("fork.once"),
    EventType.EXIT: Needs("exit.once"),
}

# Without these the agent does not start; without the rest of EVENTS it runs degraded.
MINIMUM = (EventType.OPEN, EventType.UNLINK, EventType.RENAME)


def names(selector: Selector) -> tuple[str, ...]:
    """All hooks that a selector speaks of."""
    if isinstance(selector, str):
        return (selector,)
    return tuple(name for part in selector.parts for name in names(part))


def parts(selector: Selector) -> tuple[Selector, ...]:
    """What a selector is made of; of a single hook nothing."""
    return () if isinstance(selector, str) else selector.parts


def missing(selector: Selector, present: frozenset[str]) -> tuple[str, ...]:
    """The hooks whose absence leaves a selector unsatisfied; empty if it holds."""
    if isinstance(selector, str):
        return () if selector in present else (selector,)
    lacks = [missing(part, present) for part in selector.parts]
    if selector.rule == "best effort" or (selector.rule == "one of" and not all(lacks)):
        return ()
    return tuple(name for part in lacks for name in part)


# What the programs at system calls cannot see, in words for people; of each event type beside what all share.
SPELLED = (
    "told in the caller's words, which may change while the kernel reads them: no links followed, no inode; "
    "what io_uring does is not seen"
)
_LIMITS: dict[EventType, str] = {
    EventType.OPEN: f"{SPELLED}, nor an open by a file's handle",
    EventType.CLOSE: "only by close(2): not by dup2, close_range, exec, io_uring or the end of a process",
}
# Ways in (the scenarios `doors.*`) that a set does not see, and why. Every set sees all others.
UNSEEN_DOORS: dict[str, dict[str, str]] = {
    "tracepoint": {
        "io_uring": "what io_uring does is no system call of its own",
        "handle": "a file's handle has no name to tell",
    }
}


# What cannot be seen without one of the hooks that are wanted.
UNREFUSED = "what is refused while its name is looked up is not seen"
# Of programs that the kernel skips where one of them was preempted: see `LADDER`.
HIDDEN = "a program that is preempted hides what others do on its processor; that is counted as lost"
_WITHOUT = {
    "parent.given": UNREFUSED,
    "open_root.enter": "an open by a file's handle is not seen",
    "ftruncate.enter": "a truncation by descriptor is not seen",
    "move_mount.enter": "a mount by move_mount(2) is not seen",
}


def limits(present: frozenset[str]) -> dict[EventType, str]:
    """What these hooks cannot see of each event that they do not see whole."""
    found = {event: _limit(event, present) for event in EVENTS}
    return {event: words for event, words in found.items() if words}


def _limit(event: EventType, present: frozenset[str]) -> str:
    if by_syscalls(event, present):
        return _LIMITS.get(event, SPELLED)
    if missing(EVENTS[event].minimum, present):
        return ""  # nothing of it is seen, which its coverage says
    lacking = missing(EVENTS[event].wanted, present)
    return next((_WITHOUT[hook] for hook in lacking if hook in _WITHOUT), "")


def by_syscalls(event: EventType, present: frozenset[str]) -> bool:
    """Whether these hooks see an event by its system calls alone."""
    minimum = EVENTS[event].minimum
    if isinstance(minimum, str) or minimum.rule != "one of":
        return False
    whole, calls = minimum.parts
    return bool(missing(whole, present)) and not missing(calls, present)


def kind_of(hook: str, rung: str) -> str:
    """The program type that serves a hook in a set; empty where the set has none for it."""
    point, phase = hook.split(".")
    return SETS[rung].get(SYSCALL if point == SYSCALL else "task" if point in TRACEPOINTS else phase, "")


def candidates(hook: str, kind: str) -> tuple[str, ...]:
    """What a program of this type can be attached to for this hook, the newest name first."""
    point, phase = hook.split(".")
    if point == SYSCALL:
        return (SYSCALLS[phase],)
    if kind == RAW_TRACEPOINT:
        return (TRACEPOINTS[point],)
    if phase == "resolve":
        return (RESOLVES[point].lsm if kind == "lsm" else RESOLVES[point].function,)
    table = {"given": GIVEN, "once": ONCE}.get(phase, POINTS)
    return table[point]


def drift(hook: str, parameters: tuple[str, ...]) -> str:
    """Which of a function's parameters lies elsewhere than its program reads it; empty if none does."""
    here = parameters[1:] if parameters[:1] and parameters[0] in LEADING else parameters
    for place, name in enumerate(ARGUMENTS.get(hook, ())):
        if name in here and here.index(name) != place:
            return f"its argument {name} is number {here.index(name) + 1} here, not {place + 1}"
    return ""


def program(hook: str, kind: str) -> str:
    """The program's name in the object."""
    point, phase = hook.split(".")
    return f"{kind}__{point}__{phase}"


ALL = tuple(dict.fromkeys(name for need in EVENTS.values() for part in need for name in names(part)))

# What makes discarders stale: without one of these hooks a discarder could outlive what it is about.
_STALING = ("unlink", "rmdir", "rename", "link", "mount", "umount")
INVALIDATORS = (
    *(name for point in _STALING for name in names(parts(EVENTS[EventType[point.upper()]].minimum)[0])),
    *("move_mount.enter", "unmounted.once"),
)
