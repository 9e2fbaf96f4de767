"""The dispatcher never waits for a sink, and delivers the remaining matches when it ends."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from agent.sinks.base import Match, SinkCounters
from agent.sinks.dispatch import BATCH, OWN_BYTES, Dispatcher, Outlet
from tests.agent.sinks.conftest import match, matches


class FakeSink:
    name = "fake"
    linger_s = 0.0

    def __init__(self, room: int = 1 << 30) -> None:
        self.counters = SinkCounters()
        self.room = room
        self.lines: list[bytes] = []
        self.calls: list[str] = []
        self.retry_s = 100.0
        self.written = threading.Event()

    def write(self, matches: Sequence[Match]) -> int:
        self.calls.append("write")
        taken = [match.line for match in matches[: self.room]]
        self.room -= len(taken)
        self.lines += taken
        self.counters.delivered += len(taken)
        self.written.set()
        return len(taken)

    def tick(self) -> None:
        self.calls.append("tick")

    def reopen(self) -> None:
        self.calls.append("reopen")

    def close(self) -> None:
        self.calls.append("close")

    def status(self) -> dict[str, int]:
        return {"own": 1}


def test_a_sink_can_have_another_format() -> None:
    """It is made in the sink's thread from the offered match, also when the match is offered again."""
    sink = FakeSink(room=0)
    outlet = Outlet(sink, encode=lambda match: match._replace(line=b"<" + match.line + b">"))
    outlet.offer(match(1))
    outlet.step()
    sink.room = 5
    outlet.drain(float("inf"))
    assert sink.lines == [b'<{"n":1}>']


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_queue_is_bounded_in_matches_and_bytes() -> None:
    outlet = Outlet(FakeSink(), max_matches=2)
    assert [outlet.offer(match()) for _ in range(3)] == [True, True, False]
    outlet = Outlet(FakeSink(), max_bytes=500)
    assert [outlet.offer(Match("r", "open", 0, b"x" * 100)) for _ in range(3)] == [True, False, False]
    assert (outlet.offered, outlet.overflowed, outlet.queued) == (3, 2, 1)
    outlet.step()
    assert outlet.offer(match())


def test_the_agents_own_events_have_room_in_a_full_queue() -> None:
    """A sink that accepts matches again must get to know what it has missed; this room is bounded too."""
    own = Match("agent.loss", "agent.loss", 0, b"x" * 100)
    outlet = Outlet(FakeSink(), max_matches=2)
    assert [outlet.offer(one) for one in (match(), match(), match(), own)] == [True, True, False, True]
    assert not outlet.offer(match())
    outlet = Outlet(FakeSink(), max_bytes=500)
    offered = [outlet.offer(own) for _ in range(OWN_BYTES // 300 + 10)]
    assert offered[0]
    assert not offered[-1]
    assert sum(offered) <= (OWN_BYTES + 500) // 300


def test_matches_wait_a_moment_for_a_batch() -> None:
    clock, sink = Clock(), FakeSink()
    sink.linger_s = 1.0
    outlet = Outlet(sink, clock=clock)
    outlet.offer(match(0))
    outlet.step()
    assert sink.lines == []
    assert outlet.delay() == 1.0
    clock.now = 1.0
    outlet.offer(match(1))
    outlet.step()
    assert len(sink.lines) == 2


def test_a_full_batch_does_not_wait() -> None:
    sink = FakeSink()
    sink.linger_s = 1000.0
    outlet = Outlet(sink, clock=Clock())
    for item in matches(BATCH):
        outlet.offer(item)
    assert outlet.delay() == 0.0
    outlet.step()
    assert len(sink.lines) == BATCH


def test_a_failed_sink_is_not_tried_before_its_time() -> None:
    clock, sink = Clock(), FakeSink(room=1)
    outlet = Outlet(sink, clock=clock)
    for item in matches(3):
        outlet.offer(item)
    for _ in range(3):
        outlet.step()
    assert sink.calls.count("write") == 2  # one took a match, one took none
    assert outlet.delay() == 100.0
    sink.room, clock.now = 10, 100.0
    outlet.step()
    assert sink.lines == [b'{"n":0}', b'{"n":1}', b'{"n":2}']


def test_reopen_comes_before_the_next_write() -> None:
    sink = FakeSink()
    outlet = Outlet(sink)
    outlet.offer(match())
    outlet.reopen()
    outlet.step()
    assert sink.calls == ["reopen", "write", "tick"]


def test_every_sink_gets_every_match_also_at_the_end() -> None:
    fast, slow = FakeSink(), FakeSink(room=5)
    slow.linger_s = 1000.0
    dispatcher = Dispatcher([Outlet(fast), Outlet(slow)])
    for item in matches(10):
        dispatcher.send(item)
    dispatcher.start()
    assert fast.written.wait(10)
    dispatcher.reopen()
    assert dispatcher.close() == 5
    assert (len(fast.lines), len(slow.lines)) == (10, 5)
    assert fast.calls[-1] == slow.calls[-1] == "close"
    assert dispatcher.status()["fake"] == {
        "offered": 10,
        "delivered": 5,
        "dropped": 0,
        "queued": 5,
        "errors": 0,
        "own": 1,
    }


def test_a_sink_that_hangs_does_not_delay_the_end() -> None:
    release = threading.Event()

    class Hanging(FakeSink):
        def write(self, matches: Sequence[Match]) -> int:
            self.written.set()
            release.wait(10)
            return super().write(matches)

    sink = Hanging()
    dispatcher = Dispatcher([Outlet(sink)])
    dispatcher.start()
    dispatcher.send(match())
    assert sink.written.wait(10)
    assert dispatcher.close(timeout_s=0.01) == 1
    release.set()
    assert dispatcher.close() == 0
