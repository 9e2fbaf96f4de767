"""Metrics in the text format of Prometheus."""

from __future__ import annotations

import http.client
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError
from agent.service.metrics import CONTENT_TYPE, FAMILIES, MetricsServer, render

STATE: dict[str, Any] = {
    "uptime_s": 1.5,
    "rules": 3,
    "ledger": {"open": {"delivered": 5, "matched": 2}},
    "lost": {"open": {"ring_full": 1}},
    "rate_limited": {'a"b\\c\nd': 7},
    "hooks": ["no number"],
}
PAIR = r'[a-z]+="(\\[\\"n]|[^\\"\n])*"'
SAMPLE = re.compile(rf"[a-z_]+(\{{{PAIR}(,{PAIR})*\}})? [0-9.e+-]+")


def test_a_state_as_text() -> None:
    lines = render(STATE).splitlines()
    assert "# TYPE fim_events_total counter" in lines
    assert 'fim_events_total{type="open",outcome="delivered"} 5' in lines
    assert 'fim_lost_total{type="open",cause="ring_full"} 1' in lines
    assert 'fim_rate_limited_total{rule="a\\"b\\\\c\\nd"} 7' in lines
    assert "fim_uptime_seconds 1.5" in lines
    assert not [line for line in lines if "fim_sink" in line]


@given(st.dictionaries(st.text(), st.integers(0, 2**64), max_size=3))
def test_no_name_can_forge_a_sample(names: dict[str, int]) -> None:
    lines = [line for line in render({"rate_limited": names}).split("\n") if line and line[0] != "#"]
    assert len(lines) == len(names)
    assert all(SAMPLE.fullmatch(line) for line in lines)


def test_names_are_unique_and_of_the_agent() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names)
    assert all(name.startswith("fim_") for name in names)


def get(port: int, path: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    found = response.status, response.headers.get("Content-Type", ""), response.read().decode()
    connection.close()
    return found


def test_the_endpoint() -> None:
    server = MetricsServer(0, lambda: STATE)
    try:
        assert get(server.port, "/metrics") == (200, CONTENT_TYPE, render(STATE))
        assert get(server.port, "/")[0] == 404
        with pytest.raises(AgentError, match="cannot serve metrics"):
            MetricsServer(server.port, lambda: STATE)
    finally:
        server.close()
