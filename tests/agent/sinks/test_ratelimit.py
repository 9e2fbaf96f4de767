"""Rate limits for each rule, with a fake clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sinks import ratelimit
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


def test_a_user_hides_no_match_of_another() -> None:
    limit = RateLimit(1.0, clock=lambda: 0.0)
    assert [limit.admit("a", user=1000) for _ in range(100)] == [True] + [False] * 99
    assert limit.admit("a", user=0)
    assert limit.suppressed() == {"a": 99}


def test_a_time_between_reports_is_for_all_users() -> None:
    limit = RateLimit(0, clock=lambda: 0.0)
    assert limit.admit("a", 60.0, user=1000)
    assert not limit.admit("a", 60.0, user=0)


def test_users_beyond_the_bound_share_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of users who are quiet take no room."""
    now = [0.0]
    monkeypatch.setattr(ratelimit, "MAX_BUCKETS", 2)
    limit = RateLimit(1.0, burst=2, clock=lambda: now[0])
    assert [limit.admit("a", user=user) for user in (1, 2, 3, 4, 5)] == [True] * 4 + [False]
    now[0] = 60.0
    assert [limit.admit("a", user=user) for user in (6, 7, 7, 7)] == [True] * 3 + [False]


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
