"""Computes the coverage of each event type by the programs of a plan, and describes what they do not see."""

from __future__ import annotations

from collections.abc import Mapping

from agent.events.model import EventType
from agent.hooks import points
from agent.kernel.choose import FIRES, SKIPS, Chosen

# Kinds whose program the kernel skips where it was preempted on that CPU: see `hooks.LADDER`.
SKIPPED = frozenset({*points.TRAMPOLINES, points.RAW_TRACEPOINT})


def coverage(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> dict[str, str]:
    """For each event type, by label: full, degraded or none."""
    present = frozenset(chosen)
    levels = {event: coverage_of(needs, present) for event, needs in points.EVENTS.items()}
    hidden = _hidden(chosen, capabilities)
    return {
        event.label: "degraded" if level == "full" and event in hidden else level
        for event, level in levels.items()
    }


def coverage_of(needs: points.Needs, present: frozenset[str]) -> str:
    """How much of an event type these hooks see, as long as none of them is skipped."""
    if points.missing(needs.minimum, present):
        return "none"
    return "degraded" if points.missing(needs.wanted, present) else "full"


def limits(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> dict[str, str]:
    """What cannot be seen of the event types that are not seen whole, in words, by label."""
    found = points.limits(frozenset(chosen))
    for event in _hidden(chosen, capabilities):
        found[event] = "; ".join(filter(None, (found.get(event), points.HIDDEN)))
    return {event.label: words for event, words in found.items()}


def _hidden(chosen: Mapping[str, Chosen], capabilities: Mapping[str, str]) -> list[EventType]:
    """The event types of which preempted programs hide some, on a kernel where that was observed."""
    if capabilities.get(SKIPS) != FIRES:
        return []
    return [event for event, needs in points.EVENTS.items() if _kinds(needs, chosen) & SKIPPED]


def _kinds(needs: points.Needs, chosen: Mapping[str, Chosen]) -> set[str]:
    return {chosen[name].kind for name in points.names(needs.minimum) if name in chosen}
