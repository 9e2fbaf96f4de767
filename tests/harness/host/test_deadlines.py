"""Deadlines: the order that they must have."""

from __future__ import annotations

from agent.selftest.runner import CLIENT_S, MAX_PATIENCE_S, MOST
from harness.host import deadlines


def test_the_agent_reports_a_hanging_scenario_before_the_harness_gives_up() -> None:
    """The agent's deadline is shorter for each cost, so that its reason is the one that is reported."""
    assert deadlines.Pace(slowness=1, load=lambda: 0.0).stretch() == 1
    assert MAX_PATIENCE_S * 1.2 < CLIENT_S == deadlines.TEST_S
    assert MOST <= deadlines.MOST
