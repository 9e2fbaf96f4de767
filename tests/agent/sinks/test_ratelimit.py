"""Rate limits for each rule, with a fake clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.sinks.ratelimit import RateLimit


def test_burst_then_rate() -> None:
    now = [0.0]
    limit = RateLimit(2.0, burst=3, clock=lambda: now[0])
    assert [limit.admit("a") for _ in range(5)] == [True] * 3 + [False] * 2
    assert limit.admit("b")
    now[0] = 0.5
    assert [limit.admit("a") for _ in range(2)] == [True, False]
    assert limit.suppressed() == {"a": 3}


def test_a_rule_may_ask_for_a_time_between_reports() -> None:
    now = [0.0]
    limit = RateLimit(0, clock=lambda: now[0])
    assert [limit.admit("a", 60.0) for _ in range(3)] == [True, False, False]
    now[0] = 59.0
    assert not limit.admit("a", 60.0)
    now[0] = 60.0
    assert limit.admit("a", 60.0)
    limit.forget()
    assert [limit.admit("a", 60.0) for _ in range(2)] == [True, False]
    assert limit.suppressed() == {"a": 4}


def test_no_limit() -> None:
    limit = RateLimit(0)
    assert all(limit.admit("a") for _ in range(1000))
    assert limit.suppressed() == {}


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.integers(1, 20), st.integers(1, 5))
def test_never_more_than_burst_and_rate(steps: list[float], burst: int, rate: int) -> None:
    now = [0.0]
    limit = RateLimit(rate, burst, clock=lambda: now[0])
    admitted = 0
    for step in steps:
        now[0] += step
        admitted += limit.admit("a")
        assert admitted <= burst + now[0] * rate + 1e-6
    assert admitted + limit.suppressed().get("a", 0) == len(steps)
