"""Lists the hooks that each event type needs: as a minimum, for full coverage, and as an extra."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from agent.events.model import EventType
from agent.hooks.points import AFTER_LOST_RETURN, SYSCALL

# A hook in one of these phases is needed to see an operation at all: if the kernel skips its program, the
# event is not seen. A skipped `exit` is counted (`abandoned`, `unentered`); a skipped `given` loses the
# caller's text, and at `want_write_file` what a read-only mount refuses (docs/limits.md).
BLINDING = ("enter", "resolve", "once")


class Group(NamedTuple):
    """A selector with a rule, `all of`, `one of` or `best effort`, over hooks and other selectors."""

    rule: str
    parts: tuple[Selector, ...]


Selector = str | Group


def all_of(*parts: Selector) -> Group:
    """Require every part."""
    return Group("all of", parts)


def one_of(*parts: Selector) -> Group:
    """Require one part, and prefer the earlier ones."""
    return Group("one of", parts)


def best_effort(*parts: Selector) -> Group:
    """Use each part that is available."""
    return Group("best effort", parts)


class Needs(NamedTuple):
    """The hooks of an event type: without `minimum` it is not seen, without `wanted` not completely."""

    minimum: Selector
    wanted: Selector = best_effort()
    extra: Selector = best_effort()


def _returns(point: str) -> Group:
    return all_of(f"{point}.enter", f"{point}.exit")


def _resolved(point: str) -> Group:
    return all_of(f"{point}.enter", f"{point}.resolve", f"{point}.exit")


_CALLS = _returns(SYSCALL)
SYSCALL_HOOKS = tuple(str(part) for part in _CALLS.parts)


def _needs(whole: Selector, *wanted: Selector, extra: Selector | None = None) -> Needs:
    """Return needs that `whole` serves completely, and the arguments of system calls as a minimum."""
    return Needs(one_of(whole, _CALLS), all_of(whole, *wanted), extra or best_effort())


_PARENT = ("parent.given", "parent.exit")

# Without `parent` only this hook shows that an operation on a name looks it up again.
_LOOKED_UP_AGAIN = best_effort("want_write.given")


def _named(point: str) -> Needs:
    """Return the needs of an operation on a name. Only the hooks at `parent` see what fails in the lookup."""
    return _needs(_resolved(point), *_PARENT, extra=_LOOKED_UP_AGAIN)


def _looked_up(point: str, *wanted: Selector, whole: Selector | None = None, **more: Group) -> Needs:
    """Return the needs of an operation on an object. Only hooks `by_name` see what fails in the lookup."""
    by_name = all_of(_returns(f"{point}_path"), "lookup.given")
    return _needs(whole or _returns(point), by_name, *wanted, **more)


_MOUNTS = all_of(
    *("want_write.given", "want_write_file.given", "drop_write.given", "drop_write_file.given"),
)

# What a read-only mount refuses: only these hooks see the object, and without the last two a call by
# descriptor is no event.
_READ_ONLY = best_effort("want_write.given", all_of("want_write_file.given", "want_write_file.exit"))

# Before 5.13 no function of the kernel serves all file systems; "ioctl32" is for 32-bit callers. Of those
# "ioctl.resolve" sees the entry where the kernel has no "ioctl32.resolve", as before 5.10.210.
_IOCTL = all_of("ioctl.resolve", "ioctl.exit", best_effort("ioctl32.resolve", "ioctl32.exit"))

# What came in 5.12 and 6.15, and what 32-bit callers of x86 enter.
_SETATTRS = ("mount_setattr", "mount_setattr32", "open_tree_attr", "open_tree_attr32")

# What an open or exec found before it may be refused: both where the kernel has them is one program too many.
_FOUND = one_of("walked.given", "may_open.given")

EVENTS: dict[EventType, Needs] = {
    EventType.OPEN: _needs(
        *(_resolved("open"), _returns("open_root"), _FOUND),
        extra=best_effort("signal.given", AFTER_LOST_RETURN, "want_write.given"),
    ),
    EventType.CLOSE: _needs("close.once"),
    EventType.UNLINK: _named("unlink"),
    EventType.RMDIR: _named("rmdir"),
    EventType.MKDIR: _named("mkdir"),
    EventType.RENAME: _named("rename"),
    EventType.LINK: _needs(_resolved("link"), *_PARENT, "lookup.given"),
    EventType.SYMLINK: _named("symlink"),
    EventType.MKNOD: _needs(_resolved("mknod"), *_PARENT, _returns("bind"), extra=_LOOKED_UP_AGAIN),
    EventType.TRUNCATE: _looked_up("truncate", _returns("ftruncate"), extra=best_effort("ftruncate.resolve")),
    EventType.CHMOD: _looked_up("chmod"),
    EventType.CHOWN: _looked_up("chown", extra=_READ_ONLY),
    EventType.UTIMES: _looked_up("utimes"),
    EventType.SETXATTR: _looked_up(
        "setxattr",
        whole=all_of(_returns("setxattr"), _MOUNTS),
        extra=best_effort(_returns("set_acl"), _READ_ONLY),
    ),
    EventType.REMOVEXATTR: _looked_up(
        "removexattr",
        whole=all_of(_returns("removexattr"), _MOUNTS),
        extra=best_effort(_returns("remove_acl"), _READ_ONLY),
    ),
    EventType.MOUNT: _needs(
        _returns("mount"),
        *(_resolved("move_mount"), _resolved("pivot_root"), _returns("reconfigure")),
        extra=best_effort(  # 32-bit callers of x86, and what came in 5.12
            *(_returns("move_mount32"), _returns("pivot_root32")),
            *(all_of(_returns(name), "lookup.given") for name in _SETATTRS),
        ),
    ),
    EventType.UMOUNT: _needs(_returns("umount"), "unmounted.once"),
    EventType.EXEC: Needs("exec.once", all_of("exec.once", _returns("exec_open"), _FOUND)),
    EventType.FORK: Needs("fork.once"),
    EventType.EXIT: Needs("exit.once"),
    EventType.CHATTR: _needs(
        one_of(all_of(_returns("chattr"), _MOUNTS), _IOCTL),
        extra=best_effort(all_of(_returns("chattr_path"), "lookup.given"), _READ_ONLY),
    ),
}

# Without these the agent does not start; without the rest of EVENTS it runs degraded.
MINIMUM = (EventType.OPEN, EventType.UNLINK, EventType.RENAME)


def names(selector: Selector) -> tuple[str, ...]:
    """Return all hooks in a selector."""
    if isinstance(selector, str):
        return (selector,)
    return tuple(name for part in selector.parts for name in names(part))


def parts(selector: Selector) -> tuple[Selector, ...]:
    """Return the parts of a group; nothing for a single hook."""
    return () if isinstance(selector, str) else selector.parts


def missing(selector: Selector, present: frozenset[str]) -> tuple[str, ...]:
    """Return the hooks whose absence leaves a selector unsatisfied; nothing if it is satisfied."""
    if isinstance(selector, str):
        return () if selector in present else (selector,)
    lacks = [missing(part, present) for part in selector.parts]
    if selector.rule == "best effort" or (selector.rule == "one of" and not all(lacks)):
        return ()
    return tuple(name for part in lacks for name in part)


def by_syscalls(event: EventType, present: frozenset[str]) -> bool:
    """Return whether these hooks see an event only by the arguments of its system calls."""
    minimum = EVENTS[event].minimum
    if isinstance(minimum, str) or minimum.rule != "one of":
        return False
    whole, calls = minimum.parts
    return bool(missing(whole, present)) and not missing(calls, present)


# No discarder drops these.
_WITHOUT_FILES = frozenset({EventType.FORK, EventType.EXIT})

# Attached with any other hook: the end of a thread frees what its operations hold, and when a signal is
# handled the kernel decides whether the call that it interrupted starts again.
ALWAYS = ("exit.once", "signal.given")

# The hooks at which discarders become stale. Without one of them a discarder could outlive its file. Event
# types need the first ones; UNANNOUNCED are chosen only with all of those.
_STALING = ("unlink", "rmdir", "rename", "link", "mount", "umount")
EVENT_INVALIDATORS = (
    *(name for point in _STALING for name in names(parts(EVENTS[EventType[point.upper()]].minimum)[0])),
    *("move_mount.enter", "move_mount.exit", "pivot_root.enter", "pivot_root.exit", "unmounted.once"),
)
UNANNOUNCED = all_of("freed.once", "moved.once", "exchanged.once", "linked.once", "unlinked.once")
INVALIDATORS = (*EVENT_INVALIDATORS, *names(UNANNOUNCED))

_SELECTORS = (*(part for needs in EVENTS.values() for part in needs), UNANNOUNCED)
HOOKS = tuple(dict.fromkeys(name for selector in _SELECTORS for name in names(selector)))


def required(events: Collection[EventType], present: frozenset[str]) -> frozenset[str]:
    """Return those of the present hooks that these events need.

    With events that discarders can drop come the hooks that make discarders stale (INVALIDATORS), if all of
    them are present: without, discarders are not used.
    """
    if not events:
        return frozenset()
    hooks: set[str] = {*ALWAYS}
    for event in events:
        if by_syscalls(event, present):
            hooks.update(SYSCALL_HOOKS)
        else:
            hooks.update(name for part in EVENTS[event] for name in names(part) if name not in SYSCALL_HOOKS)
    if present.issuperset(INVALIDATORS) and not _WITHOUT_FILES.issuperset(events):
        hooks.update(INVALIDATORS)
    return present & hooks
