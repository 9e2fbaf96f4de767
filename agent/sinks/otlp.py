"""Exports matches as OTLP logs to a collector.

Matches that the collector does not accept at once go to the spool, and are exported from there in order when
the collector is available again. While the spool is not empty, new matches are appended to it. Attempts are
spaced by exponential backoff with jitter, or as the collector requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from agent.sinks.backoff import Backoff
from agent.sinks.base import Match, SinkCounters
from agent.sinks.otlp_http import Collector, Delivered, Later, Outcome
from agent.sinks.protobuf import export_request, log_record
from agent.sinks.spool import Chunk, Spool

BATCH_MATCHES = 512
BATCH_BYTES = 512 << 10
LINGER_S = 1.0
_IDLE_S = 60.0
_LONGEST_ASKED_S = 3600.0
_INFO = 9  # SeverityNumber INFO
_SCOPE = "fim-agent"


class OtlpSink:
    """Exports in batches. Without a spool, undelivered matches stay in the dispatcher's queue."""

    name = "otlp"

    def __init__(
        self,
        collector: Collector,
        spool: Spool | None,
        resource: Mapping[str, str],
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.counters = SinkCounters()
        self.linger_s = LINGER_S
        self.last_error = ""
        self._collector = collector
        self._spool = spool
        self._resource = resource
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._wall_ns = wall_ns
        self._next_attempt = clock()
        self._spool_dropped = 0

    def write(self, matches: Sequence[Match]) -> int:
        """Export or spool one batch from the front of `matches`."""
        chunk = self._encode(matches)
        if self._waiting or (self._spool and self._spool.matches):
            return self._keep(chunk)
        return chunk.matches if self._settle(self._export(chunk), chunk) else self._keep(chunk)

    def tick(self) -> None:
        """Export the oldest chunk of the spool, if an attempt is due."""
        if self._spool is None or self._waiting:
            return
        chunk = self._spool.peek()
        self._count_spool(self._spool)
        if chunk is not None and self._settle(self._export(chunk), chunk):
            self._spool.pop()

    @property
    def retry_s(self) -> float:
        """Seconds until the next attempt if matches wait for one, else long."""
        if self._waiting or (self._spool and self._spool.matches):
            return max(0.0, self._next_attempt - self._clock())
        return _IDLE_S

    def reopen(self) -> None:
        """Use a new connection for the next export."""
        self._collector.close()

    def close(self) -> None:
        """Close connection and spool; the next start exports the spooled matches."""
        self._collector.close()
        if self._spool is not None:
            self._spool.close()

    def status(self) -> dict[str, int]:
        """Return the numbers of the spool: waiting, dropped and corrupt."""
        if self._spool is None:
            return {}
        return {
            "spooled": self._spool.matches,
            "spool_bytes": self._spool.size,
            "spool_dropped": self._spool.counters.dropped,
            "spool_corrupt_bytes": self._spool.counters.corrupt_bytes,
        }

    @property
    def _waiting(self) -> bool:
        return self._clock() < self._next_attempt

    def _encode(self, matches: Sequence[Match]) -> Chunk:
        now = self._wall_ns()
        records: list[bytes] = []
        size = 0
        for match in matches[:BATCH_MATCHES]:
            record = _record(match, now)
            if records and size + len(record) > BATCH_BYTES:
                break
            records.append(record)
            size += len(record)
        return Chunk(b"".join(records), len(records))

    def _export(self, chunk: Chunk) -> Outcome:
        request = export_request(
            self._resource, _SCOPE, self._resource.get("service.version", ""), chunk.content
        )
        return self._collector.export(request)

    def _settle(self, outcome: Outcome, chunk: Chunk) -> bool:
        """Count an outcome and return whether the chunk is finished."""
        if isinstance(outcome, Later):
            self.counters.errors += 1
            self.last_error = outcome.reason
            self._wait(outcome.after_s)
            return False
        self._backoff.reset()
        rejected = min(outcome.rejected, chunk.matches) if isinstance(outcome, Delivered) else chunk.matches
        if rejected:
            self.counters.errors += 1
            self.last_error = outcome.reason
        self.counters.dropped += rejected
        self.counters.delivered += chunk.matches - rejected
        return True

    def _wait(self, asked_s: float | None) -> None:
        delay = self._backoff.delay_s()
        if asked_s is not None:
            delay = max(delay, min(asked_s, _LONGEST_ASKED_S))
        self._next_attempt = self._clock() + delay

    def _keep(self, chunk: Chunk) -> int:
        if self._spool is None:
            return 0
        self._spool.append(chunk)
        self._count_spool(self._spool)
        return chunk.matches

    def _count_spool(self, spool: Spool) -> None:
        self.counters.dropped += spool.counters.dropped - self._spool_dropped
        self._spool_dropped = spool.counters.dropped


def _record(match: Match, observed_ns: int) -> bytes:
    values = {"fim.rule": match.rule, "fim.event": match.event_type}
    return log_record(match.unix_ns, observed_ns, _INFO, match.line, "fim.match", values)
