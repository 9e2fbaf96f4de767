"""What the programs of a plan see of each event type, and in words what they do not."""

from __future__ import annotations

from collections.abc import Mapping

from agent import hooks
from agent.events import EventType
from agent.kernel.choose import FIRES, SKIPS, Chosen

# Kinds whose program the kernel skips where it was preempted on that CPU: see `hooks.LADDER`.
SKIPPED = frozenset({*hooks.TRAMPOLINES, hooks.RAW_TRACEPOINT})


def coverage(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> dict[str, str]:
    """For each event type, by label: full, degraded or none."""
    present = frozenset(chosen)
    levels = {event: coverage_of(needs, present) for event, needs in hooks.EVENTS.items()}
    hidden = _hidden(chosen, capabilities)
    return {
        event.label: "degraded" if level == "full" and event in hidden else level
        for event, level in levels.items()
    }


def coverage_of(needs: hooks.Needs, present: frozenset[str]) -> str:
    """How much of an event type these hooks see, as long as none of them is skipped."""
    if hooks.missing(needs.minimum, present):
        return "none"
    return "degraded" if hooks.missing(needs.wanted, present) else "full"


def limits(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> dict[str, str]:
    """What cannot be seen of the event types that are not seen whole, in words, by label."""
    found = hooks.limits(frozenset(chosen))
    for event in _hidden(chosen, capabilities):
        found[event] = "; ".join(filter(None, (found.get(event), hooks.HIDDEN)))
    return {event.label: words for event, words in found.items()}


def _hidden(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> list[EventType]:
    """The event types of which preempted programs hide some, on a kernel where that was observed."""
    if capabilities.get(SKIPS) != FIRES:
        return []
    return [event for event, needs in hooks.EVENTS.items() if _kinds(needs, chosen) & SKIPPED]


def _kinds(needs: hooks.Needs, chosen: Mapping[str, Chosen]) -> set[str]:
    return {chosen[name].kind for name in hooks.names(needs.minimum) if name in chosen}
