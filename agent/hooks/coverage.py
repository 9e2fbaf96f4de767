"""Computes how much of each event type a choice of hooks sees, and describes what it does not see.

Hooks are passed as a mapping from hook to the type of the attached program. `skips` is whether the kernel has
the flaw of that name, which `agent.hooks.sets.LADDER` describes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agent.events.model import EventType
from agent.hooks.needs import EVENTS, Needs, by_syscalls, missing, names
from agent.hooks.sets import RAW_TRACEPOINT, TRAMPOLINES

_LEVELS = ("full", "degraded", "none")

# What is not seen of an event type that only its system calls show.
ARGUMENTS_ONLY = (
    "seen only in the arguments of system calls, which may change while the kernel reads them: links are not "
    "resolved, inodes are unknown, io_uring is not seen"
)
_ARGUMENTS_ONLY: dict[EventType, str] = {
    EventType.OPEN: f"{ARGUMENTS_ONLY}, nor is an open by a file handle",
    EventType.CLOSE: "only close(2) is seen: not dup2, close_range, exec, io_uring or the end of a process",
}

# What is not seen without a hook that full coverage needs.
FAILED_LOOKUP = "operations that fail while the kernel looks up the name are not seen"
_WITHOUT = {
    "parent.given": FAILED_LOOKUP,
    "parent.exit": "a refused operation on a name is reported by the path that the caller wrote",
    "walked.given": "a refused open is reported by the path that the caller wrote; links are not followed",
    "exec_open.enter": "a refused exec is not seen",
    "open_root.enter": "an open by a file handle is not seen",
    "ftruncate.enter": "a truncation by descriptor is not seen",
    "bind.enter": "a socket that bind(2) creates is not seen",
    "move_mount.enter": "a mount by move_mount(2) is not seen",
    "pivot_root.enter": "pivot_root(2) is not seen",
    "reconfigure.enter": "a remount by fspick(2) and fsconfig(2) is not seen",
}

# What is not seen where a preempted program makes the kernel skip others, and the types that it skips.
PREEMPTED = "a preempted program hides events on its CPU; they are counted as lost"
_SKIPPED_KINDS = frozenset({*TRAMPOLINES, RAW_TRACEPOINT})

# Entry points (the scenarios `doors.*`) that a hook set does not see, and why. Every set sees all others.
UNSEEN_ENTRY_POINTS: dict[str, dict[str, str]] = {
    "tracepoint": {
        "io_uring": "io_uring makes no system call for each operation",
        "handle": "a file handle has no name",
    }
}


def levels(kinds: Mapping[str, str], skips: bool) -> dict[str, str]:
    """Return the coverage of each event type, by label: full, degraded or none."""
    present = frozenset(kinds)
    hidden = _hidden(kinds) if skips else ()
    of_events = {event: level(needs, present) for event, needs in EVENTS.items()}
    return {
        event.label: "degraded" if of_event == "full" and event in hidden else of_event
        for event, of_event in of_events.items()
    }


def level(needs: Needs, present: frozenset[str]) -> str:
    """Return the coverage of one event type by these hooks, if the kernel skips none of their programs."""
    if missing(needs.minimum, present):
        return "none"
    return "degraded" if missing(needs.wanted, present) else "full"


def limits(kinds: Mapping[str, str], skips: bool) -> dict[str, str]:
    """Describe what is not seen of each event type that is not seen completely, by label."""
    texts = {event: _limit(event, frozenset(kinds)) for event in EVENTS}
    for event in _hidden(kinds) if skips else ():
        texts[event] = "; ".join(filter(None, (texts[event], PREEMPTED)))
    return {event.label: text for event, text in texts.items() if text}


def lines(levels: Mapping[str, str], limits: Mapping[str, str]) -> Iterator[str]:
    """Yield a line with the event types of each level, then one line for each limit."""
    groups = ((name, [label for label, of_event in levels.items() if of_event == name]) for name in _LEVELS)
    parts = [f"{name} {_join(labels, len(levels))}" for name, labels in groups if labels]
    yield f"coverage: {'; '.join(parts) or 'none'}"
    for limit in dict.fromkeys(limits.values()):
        labels = [label for label, of_event in limits.items() if of_event == limit]
        yield f"{_join(labels, len(levels))}: {limit}"


def _limit(event: EventType, present: frozenset[str]) -> str:
    if by_syscalls(event, present):
        return _ARGUMENTS_ONLY.get(event, ARGUMENTS_ONLY)
    if missing(EVENTS[event].minimum, present):
        return ""  # its coverage is none, which says enough
    lacking = missing(EVENTS[event].wanted, present)
    return next((_WITHOUT[hook] for hook in lacking if hook in _WITHOUT), "")


def _hidden(kinds: Mapping[str, str]) -> list[EventType]:
    """Return the event types of which a preempted program hides some."""
    return [
        event
        for event, needs in EVENTS.items()
        if {kinds[hook] for hook in names(needs.minimum) if hook in kinds} & _SKIPPED_KINDS
    ]


def _join(labels: list[str], total: int) -> str:
    return "all event types" if len(labels) == total else ", ".join(labels)
