"""Deadlines: which is shorter than which."""

from __future__ import annotations

from agent.selftest.runner import MAX_PATIENCE_S
from harness.host import deadlines


def test_the_agent_reports_a_hanging_scenario_before_the_harness_gives_up() -> None:
    """Both are multiplied by 1 + cost, and the harness's is never shortened: so the first reason wins."""
    assert deadlines.Pace(slowness=1, load=lambda: 0.0).stretch() == 1
    assert MAX_PATIENCE_S * 1.2 < deadlines.TEST_S
