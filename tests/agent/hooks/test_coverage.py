"""What an agent says of its own sight."""

from __future__ import annotations

from agent.hooks import coverage


def test_all_is_well_in_one_line() -> None:
    """Nothing that is full is named."""
    found = coverage.lines({"open": "full", "close": "full"}, {})
    assert list(found) == ["coverage: full all event types"]


def test_what_is_not_whole_is_named_with_its_reason() -> None:
    """Each reason once, with the event types that it is of."""
    levels = {"open": "degraded", "link": "degraded", "exec": "full", "mount": "none"}
    found = coverage.lines(levels, {"open": "by handle unseen", "link": "by handle unseen"})
    assert list(found) == [
        "coverage: full exec; degraded open, link; none mount",
        "open, link: by handle unseen",
    ]
