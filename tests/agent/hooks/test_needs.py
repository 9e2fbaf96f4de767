"""Expressions over hooks: which absent hooks leave them unsatisfied."""

from __future__ import annotations

import pytest

from agent.events.model import EventType
from agent.hooks.needs import (
    EVENTS,
    HOOKS,
    INVALIDATORS,
    SYSCALL_HOOKS,
    all_of,
    best_effort,
    missing,
    names,
    one_of,
    required,
)

ALL = frozenset(HOOKS) - set(SYSCALL_HOOKS)


def test_selectors() -> None:
    """All of, one of, best effort, and a group within a group."""
    present = frozenset({"a", "b"})
    assert missing(all_of("a", "c", "d"), present) == ("c", "d")
    assert missing(one_of("c", "b"), present) == ()
    assert missing(one_of("c", "d"), present) == ("c", "d")
    assert missing(best_effort("c"), present) == ()
    assert missing(all_of("a", one_of("c", "b")), present) == ()


def test_no_event_needs_no_hook() -> None:
    """An agent whose rules need no event attaches nothing."""
    assert required((), ALL) == frozenset()


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_needs_its_own_hooks_and_those_of_the_filter_law(event: EventType) -> None:
    """Hooks that make discarders stale are needed for any rules; those of other events are not."""
    own = {name for part in EVENTS[event] for name in names(part)} & ALL
    law = set() if event in (EventType.FORK, EventType.EXIT) else set(INVALIDATORS)
    assert required({event}, ALL) == own | law | {"exit.once", "signal.given"}


def test_without_discarders_nothing_is_attached_for_them() -> None:
    """Discarders are not used if one of the hooks that make them stale is missing."""
    present = ALL - {"unmounted.once"}
    assert "rename.enter" not in required({EventType.OPEN}, present)
    assert "open.enter" in required({EventType.OPEN}, present)


def test_an_event_of_system_calls_needs_their_hooks() -> None:
    """The functions of other events do not count."""
    present = frozenset({*SYSCALL_HOOKS, "exit.once", "chmod.enter"})
    assert required({EventType.OPEN}, present) == {*SYSCALL_HOOKS, "exit.once"}
    assert required({EventType.EXIT}, present) == {"exit.once"}
