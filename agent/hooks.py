"""Where programs are attached, and which are needed for what: all of it data.

A *point* is a kernel function (or LSM hook) that a program of `bpf/points.h` is made for; its candidates are
the names that the function has had, the newest first, and the one that the running kernel has is taken. A
*hook* is a point in one phase of an operation (see `bpf/operation.h`): `open.enter`, `open.resolve`,
`open.exit`.

A *set* says which program type serves each phase. `auto` climbs down `LADDER` for each event by itself.
"""

from __future__ import annotations

from typing import NamedTuple

from agent.events import EventType


class Point(NamedTuple):
    """A function that is entered and left; `number` is its place in `fim_arguments`."""

    number: int
    functions: tuple[str, ...]


class Resolve(NamedTuple):
    """Where the object becomes known: the LSM hook, if there is one, and functions."""

    lsm: str
    functions: tuple[str, ...]


# enum fim_point of bpf/operation.h. Renames: filename_* and do_file_open are 7.0.
POINTS: dict[str, Point] = {
    "open": Point(0, ("do_file_open", "do_filp_open")),
    "open_root": Point(1, ("do_file_open_root",)),
    "unlink": Point(2, ("filename_unlinkat", "do_unlinkat")),
    "rmdir": Point(3, ("filename_rmdir", "do_rmdir")),
    "mkdir": Point(4, ("filename_mkdirat", "do_mkdirat")),
    "rename": Point(5, ("filename_renameat2", "do_renameat2")),
    "link": Point(6, ("filename_linkat", "do_linkat")),
    "symlink": Point(7, ("filename_symlinkat", "do_symlinkat")),
    "mknod": Point(8, ("filename_mknodat", "do_mknodat")),
}

RESOLVES: dict[str, Resolve] = {
    "open": Resolve("file_open", ("security_file_open",)),
    "unlink": Resolve("path_unlink", ("security_path_unlink",)),
    "rmdir": Resolve("path_rmdir", ("security_path_rmdir",)),
    "mkdir": Resolve("path_mkdir", ("security_path_mkdir",)),
    "rename": Resolve("path_rename", ("security_path_rename",)),
    "link": Resolve("path_link", ("security_path_link",)),
    "symlink": Resolve("path_symlink", ("security_path_symlink",)),
    "mknod": Resolve("path_mknod", ("security_path_mknod",)),
}

GIVEN: dict[str, tuple[str, ...]] = {"parent": ("__filename_parentat", "filename_parentat")}

# Which program type serves a phase, a set at a time; without an LSM hook it is the set's enter type.
SETS: dict[str, dict[str, str]] = {
    "lsm": {"enter": "fentry", "given": "fentry", "resolve": "lsm", "exit": "fexit"},
    "fentry": {"enter": "fentry", "given": "fentry", "resolve": "fentry", "exit": "fexit"},
    "kprobe": {"enter": "kprobe", "given": "kprobe", "resolve": "kprobe", "exit": "kretprobe"},
}

LADDER = ("lsm", "fentry", "kprobe")  # what `auto` tries, in this order
AUTO = "auto"
HOOKSETS = (AUTO, *SETS)

# enum fim_family: what `Event.program` says.
FAMILIES = ("", "lsm", "fentry", "kprobe", "kprobe-multi", "tracepoint", "bcc")


class Needs(NamedTuple):
    """What an event type needs: without `minimum` it is not seen at all, without `wanted` not whole."""

    minimum: Selector
    wanted: Selector


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


def _operation(point: str) -> Hooks:
    return all_of(f"{point}.enter", f"{point}.resolve", f"{point}.exit")


def _named(point: str) -> Needs:
    """Operations on names: without `parent.given`, what is refused in the lookup is not seen."""
    return Needs(_operation(point), all_of("parent.given"))


EVENTS: dict[EventType, Needs] = {
    EventType.OPEN: Needs(_operation("open"), all_of("open_root.enter", "open_root.exit")),
    EventType.UNLINK: _named("unlink"),
    EventType.RMDIR: _named("rmdir"),
    EventType.MKDIR: _named("mkdir"),
    EventType.RENAME: _named("rename"),
    EventType.LINK: _named("link"),
    EventType.SYMLINK: _named("symlink"),
    EventType.MKNOD: _named("mknod"),
}

# Without these the agent does not start; without the rest of EVENTS it runs degraded.
MINIMUM = (EventType.OPEN, EventType.UNLINK, EventType.RENAME)


def names(selector: Selector) -> tuple[str, ...]:
    """All hooks that a selector speaks of."""
    if isinstance(selector, str):
        return (selector,)
    return tuple(name for part in selector.parts for name in names(part))


def missing(selector: Selector, present: frozenset[str]) -> tuple[str, ...]:
    """The hooks whose absence leaves a selector unsatisfied; empty if it holds."""
    if isinstance(selector, str):
        return () if selector in present else (selector,)
    lacks = [missing(part, present) for part in selector.parts]
    if selector.rule == "best effort" or (selector.rule == "one of" and not all(lacks)):
        return ()
    return tuple(name for part in lacks for name in part)


def candidates(hook: str, kind: str) -> tuple[str, ...]:
    """What a program of this type can be attached to for this hook, the newest name first."""
    point, phase = hook.split(".")
    if phase == "given":
        return GIVEN[point]
    if phase != "resolve":
        return POINTS[point].functions
    resolve = RESOLVES[point]
    return (resolve.lsm,) if kind == "lsm" else resolve.functions


def kind_of(hook: str, rung: str) -> str:
    """The program type that serves a hook in a set."""
    point, phase = hook.split(".")
    kind = SETS[rung][phase]
    if kind == "lsm" and not RESOLVES[point].lsm:
        return SETS[rung]["enter"]
    return kind


def program(hook: str, kind: str) -> str:
    """The program's name in the object."""
    point, phase = hook.split(".")
    return f"{kind}__{point}__{phase}"


ALL = tuple(dict.fromkeys(name for need in EVENTS.values() for part in need for name in names(part)))

# Events that discarders must hear of: without one of them a discarder could outlive what it is about.
INVALIDATORS = tuple(
    kind for kind in (EventType.UNLINK, EventType.RMDIR, EventType.RENAME, EventType.LINK) if kind in EVENTS
)
