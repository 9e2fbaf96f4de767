"""What the agents count in a play: the difference between two states, without the neighbour's own losses."""

from __future__ import annotations

from typing import Any

from tests.campaigns.law.arena import _played, _since


def state(seen: int, lost: int, to_neighbour: int) -> dict[str, Any]:
    ledger = {"open": {"seen": seen, "submitted": seen}}
    return {"ledger": ledger, "lost": lost, "lost_to_neighbour": to_neighbour, "dropped": 0, "open": []}


def test_a_play_has_what_was_counted_since_the_last() -> None:
    """An agent that has just started has counted only this play."""
    now = state(12, 5, 3)
    assert _since(None, now) == now
    counted = _since(state(10, 1, 0), now)
    assert counted == {**state(2, 4, 3), "ledger": {"open": {"seen": 2, "submitted": 2}}}


def test_only_losses_of_others_than_the_neighbour_count() -> None:
    """Of each agent by itself: what the agent without filters lost is no fault of the other."""
    status = {"on": state(2, 4, 3), "off": state(9, 9, 7)}
    played = _played([], {"on": [], "off": []}, status, [])
    assert (played.lost, played.lost_off, played.problems) == (1, 2, ())
