"""From a match to the sinks: limits, hashes, one line for each rule."""

from __future__ import annotations

import json
import os
from pathlib import Path

from agent.context.hashing import Hasher
from agent.events.actors import Context
from agent.events.model import Event, EventType, File
from agent.rules.engine import Rule
from agent.sinks.dispatch import Dispatcher, Outlet
from agent.sinks.ratelimit import RateLimit
from agent.sinks.render import Renderer, WallClock
from agent.sinks.report import Reporter
from tests.agent.sinks.test_dispatch import FakeSink


class Bench:
    def __init__(self, per_second: float = 0.0, *, hash_all: bool = False) -> None:
        self.sink = FakeSink()
        self._outlet = Outlet(self.sink)
        self.reporter = Reporter(
            Renderer({}),
            Dispatcher([self._outlet]),
            RateLimit(per_second, clock=lambda: 0.0),
            Hasher(),
            hash_all=hash_all,
            clock=WallClock(lambda: 0, lambda: 0),
        )

    def lines(self) -> list[dict[str, object]]:
        self._outlet.step()
        return [json.loads(line) for line in self.sink.lines]


def test_an_event_is_a_line_for_each_rule() -> None:
    bench = Bench()
    bench.reporter.matched(Event(EventType.OPEN), Context(), ["a", "b"])
    assert [line["rule"] for line in bench.lines()] == ["a", "b"]


def test_a_rule_that_matches_too_often_is_limited() -> None:
    bench = Bench(per_second=1.0)
    for _ in range(3):
        bench.reporter.matched(Event(EventType.OPEN), Context(), ["a"])
    assert len(bench.lines()) == 1
    assert bench.reporter.limit.suppressed() == {"a": 2}


def test_a_rule_may_have_its_own_limit() -> None:
    bench = Bench()
    bench.reporter.rules = {"a": Rule("a", "", every_ns=60_000_000_000)}
    for _ in range(3):
        bench.reporter.matched(Event(EventType.OPEN), Context(), ["a"])
    assert len(bench.lines()) == 1


def test_files_are_hashed_on_a_rules_request_or_always(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    event = Event(EventType.CLOSE, file=File(os.fsencode(path), path.stat().st_ino))
    some, always = Bench(), Bench(hash_all=True)
    some.reporter.rules = {"asks": Rule("asks", "", hash=True), "not": Rule("not", "")}
    for bench, rules in ((some, ["asks"]), (some, ["not"]), (always, ["unknown"])):
        bench.reporter.matched(event, Context(), rules)
    found = ["sha256" in str(line["event"]) for line in some.lines() + always.lines()]
    assert found == [True, False, True]
