"""Selectors of hooks: which absent hooks leave them unsatisfied."""

from __future__ import annotations

from agent.hooks.needs import all_of, best_effort, missing, one_of


def test_selectors() -> None:
    """All of, one of, best effort, and a group within a group."""
    present = frozenset({"a", "b"})
    assert missing(all_of("a", "c", "d"), present) == ("c", "d")
    assert missing(one_of("c", "b"), present) == ()
    assert missing(one_of("c", "d"), present) == ("c", "d")
    assert missing(best_effort("c"), present) == ()
    assert missing(all_of("a", one_of("c", "b")), present) == ()
