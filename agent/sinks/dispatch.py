"""Passes each match to every sink, through a bounded queue and a thread for each sink.

The event loop never waits for a sink. If a sink's queue is full, the match is dropped for that sink and
counted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from agent.rules.engine import OWN_PREFIX
from agent.sinks.base import Match, Sink

QUEUE_MATCHES = 16_384
QUEUE_BYTES = 16 << 20
# Room of the agent's own events beyond that, so that a sink that was full learns what it has missed.
OWN_MATCHES = 1_024
OWN_BYTES = 1 << 20
BATCH = 512
_MATCH_BYTES = 200  # of a match, without its line


class Outlet:
    """A sink and its queue. The event loop calls `offer`, the sink's thread the other methods."""

    def __init__(
        self,
        sink: Sink,
        max_matches: int = QUEUE_MATCHES,
        max_bytes: int = QUEUE_BYTES,
        clock: Callable[[], float] = time.monotonic,
        encode: Callable[[Match], Match] | None = None,
    ) -> None:
        self.sink = sink
        self._encode = encode  # to another format, in the sink's thread
        self.offered = 0
        self.overflowed = 0
        self._clock = clock
        self._max_matches = max_matches
        self._max_bytes = max_bytes
        self._queue: deque[Match] = deque()
        self._bytes = 0
        self._due_at = 0.0  # when to write the queue, even if a batch is not full
        self._tick_at = 0.0
        self._stalled = False  # the sink accepted nothing: do not write before `_tick_at`
        self._reopen = False
        self._closing = False
        self._changed = threading.Condition()

    @property
    def queued(self) -> int:
        """Matches in the queue."""
        return len(self._queue)

    def offer(self, match: Match) -> bool:
        """Queue a match. Return False and count it as dropped if the queue is full."""
        size = len(match.line) + _MATCH_BYTES
        own = match.rule.startswith(OWN_PREFIX)
        max_matches = self._max_matches + (OWN_MATCHES if own else 0)
        max_bytes = self._max_bytes + (OWN_BYTES if own else 0)
        with self._changed:
            self.offered += 1
            if len(self._queue) >= max_matches or self._bytes + size > max_bytes:
                self.overflowed += 1
                return False
            self._queue.append(match)
            self._bytes += size
            if len(self._queue) == 1:
                self._due_at = self._clock() + self.sink.linger_s
            if len(self._queue) in {1, BATCH}:  # wakes the thread at the first match and at a full batch
                self._changed.notify()
        return True

    def reopen(self) -> None:
        """Make the sink open its files again before its next write."""
        with self._changed:
            self._reopen = True
            self._changed.notify()

    def close(self) -> None:
        """Make `run` deliver what it can and return."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def run(self, drain_s: float) -> None:
        """Run the sink's thread. After `close` it writes the queue for at most `drain_s` seconds."""
        while not self._closing:
            self.step()
            with self._changed:
                delay = self.delay()
                if delay > 0:
                    self._changed.wait(delay)
        self._reopen_if_asked()
        self.drain(self._clock() + drain_s)
        self.sink.close()

    def step(self) -> None:
        """Do what is due now."""
        self._reopen_if_asked()
        if self._is_due():
            self._stalled = not self._write()
        self.sink.tick()
        self._tick_at = self._clock() + self.sink.retry_s

    def delay(self) -> float:
        """Return the seconds until `step` has something to do."""
        if self._closing or self._reopen or (not self._stalled and len(self._queue) >= BATCH):
            return 0.0
        at = min(self._tick_at, self._due_at) if self._queue and not self._stalled else self._tick_at
        return at - self._clock()

    def drain(self, deadline: float) -> None:
        """Write the queue until it is empty, the sink accepts nothing, or the deadline has passed."""
        while self._queue and self._clock() < deadline and self._write():
            pass

    def _reopen_if_asked(self) -> None:
        if self._reopen:
            self._reopen = False
            self.sink.reopen()

    def _is_due(self) -> bool:
        if not self._queue:
            return False
        now = self._clock()
        return now >= self._tick_at if self._stalled else now >= self._due_at or len(self._queue) >= BATCH

    def _write(self) -> int:
        with self._changed:
            batch = list(islice(self._queue, BATCH))
        taken = self.sink.write(list(map(self._encode, batch)) if self._encode else batch)
        with self._changed:
            for _ in range(taken):
                self._bytes -= len(self._queue.popleft().line) + _MATCH_BYTES
        return taken


class Dispatcher:
    """Passes every match to all sinks."""

    def __init__(self, outlets: Sequence[Outlet]) -> None:
        self.outlets = outlets
        self._threads: list[threading.Thread] = []

    def start(self, drain_s: float = 5.0) -> None:
        """Start a thread for each sink. Drop privileges before: a thread keeps those of its creation."""
        for outlet in self.outlets:
            thread = threading.Thread(target=outlet.run, args=(drain_s,), name=outlet.sink.name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def send(self, match: Match) -> None:
        """Queue a match for every sink."""
        for outlet in self.outlets:
            outlet.offer(match)

    def reopen(self) -> None:
        """Make every sink open its files again."""
        for outlet in self.outlets:
            outlet.reopen()

    def close(self, timeout_s: float = 10.0) -> int:
        """Deliver the queues within `timeout_s`; return how many matches remain undelivered."""
        for outlet in self.outlets:
            outlet.close()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(outlet.queued for outlet in self.outlets)

    def status(self) -> dict[str, dict[str, int]]:
        """Return the numbers of each sink, by its name."""
        return {outlet.sink.name: _status(outlet) for outlet in self.outlets}


def _status(outlet: Outlet) -> dict[str, int]:
    counters = outlet.sink.counters
    return {
        "offered": outlet.offered,
        "delivered": counters.delivered,
        "dropped": counters.dropped + outlet.overflowed,
        "queued": outlet.queued,
        "errors": counters.errors,
        **outlet.sink.status(),
    }
