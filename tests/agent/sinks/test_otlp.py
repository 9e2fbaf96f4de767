"""OTLP with a collector on the loopback device: what it accepts, refuses or defers, and the spool."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

from agent.errors import UsageError
from agent.sinks.backoff import Backoff
from agent.sinks.base import Match
from agent.sinks.otlp import BATCH_BYTES, BATCH_MATCHES, OtlpSink
from agent.sinks.otlp_http import Collector
from agent.sinks.spool import Spool
from tests.agent.sinks.conftest import match, matches

MINUTE = 60.0
DAY = 86_400.0


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FakeCollector:
    """Answers with the given status, or with success; stores the accepted requests."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.accepted: list[ExportLogsServiceRequest] = []
        self._server = HTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def bodies(self) -> list[str]:
        return [
            record.body.string_value
            for request in self.accepted
            for record in request.resource_logs[0].scope_logs[0].log_records
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers)))
                answer = outer.answers.pop(0) if outer.answers else Answer()
                if answer.status == 200:
                    outer.accepted.append(ExportLogsServiceRequest.FromString(gzip.decompress(content)))
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                """Print nothing."""

        return Handler


@pytest.fixture
def collector() -> Iterator[FakeCollector]:
    collector = FakeCollector()
    yield collector
    collector.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = Spool(tmp_path / "spool")
    yield spool
    spool.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sink_of(url: str, spool: Spool | None, clock: Clock) -> OtlpSink:
    return OtlpSink(
        Collector(url, {"Authorization": "secret"}, timeout_s=5, wall_s=lambda: 0.0),
        spool,
        {"service.name": "fim-agent", "service.version": "1", "host.name": "here"},
        backoff=Backoff(random=lambda: 0.0),
        clock=clock,
        wall_ns=lambda: 77,
    )


def test_the_library_decodes_a_batch(collector: FakeCollector, clock: Clock) -> None:
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(2)) == 2
    sink.close()
    ((path, headers),) = collector.requests
    assert path == "/v1/logs"
    assert headers["Content-Type"] == "application/x-protobuf"
    assert headers["Authorization"] == "secret"
    logs = collector.accepted[0].resource_logs[0]
    assert {pair.key: pair.value.string_value for pair in logs.resource.attributes}["host.name"] == "here"
    record = logs.scope_logs[0].log_records[1]
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (1_001, 77)
    assert record.body.string_value == '{"n":1}'
    attributes = {pair.key: pair.value.string_value for pair in record.attributes}
    assert attributes == {"fim.rule": "rule", "fim.event": "open"}
    assert sink.counters.delivered == 2


def test_batches_are_bounded_in_matches_and_bytes(collector: FakeCollector, clock: Clock) -> None:
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(BATCH_MATCHES + 1)) == BATCH_MATCHES
    large = Match("rule", "open", 0, b"x" * (BATCH_BYTES // 2))
    assert sink.write([large] * 3) == 1
    assert sink.write([Match("rule", "open", 0, b"x" * 2 * BATCH_BYTES)]) == 1  # goes alone
    sink.close()


def test_a_part_that_is_rejected_is_counted(collector: FakeCollector, clock: Clock) -> None:
    response = ExportLogsServiceResponse()
    response.partial_success.rejected_log_records = 2
    response.partial_success.error_message = "too old"
    collector.answers = [Answer(body=response.SerializeToString()), Answer(body=b"<html>")]
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(5)) == 5
    assert (sink.counters.delivered, sink.counters.dropped, sink.last_error) == (3, 2, "too old")
    assert sink.write(matches(1)) == 1  # a success is a success, whatever it says
    assert sink.counters.delivered == 4
    sink.close()


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 301])
def test_a_permanent_refusal_drops_the_batch(collector: FakeCollector, clock: Clock, status: int) -> None:
    collector.answers = [Answer(status)]
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(3)) == 3
    assert (sink.counters.delivered, sink.counters.dropped) == (0, 3)
    assert sink.last_error == f"HTTP {status}"
    sink.close()


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_temporary_refusal_is_tried_again(
    collector: FakeCollector, spool: Spool, clock: Clock, status: int
) -> None:
    collector.answers = [Answer(status)]
    sink = sink_of(collector.url, spool, clock)
    assert sink.write(matches(2)) == 2
    assert (sink.counters.errors, spool.matches) == (1, 2)
    sink.tick()
    assert len(collector.requests) == 1  # not yet
    assert sink.retry_s == 1.0
    clock.now += 1.0
    sink.tick()
    assert (collector.bodies(), spool.matches) == (['{"n":0}', '{"n":1}'], 0)
    sink._collector.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("30", 30.0), ("0", 1.0), ("Thu, 01 Jan 1970 00:00:45 GMT", 45.0), ("nonsense", 1.0), ("99999", 3600.0)],
)
def test_retry_after_is_respected(
    collector: FakeCollector, spool: Spool, clock: Clock, header: str, seconds: float
) -> None:
    collector.answers = [Answer(503, {"Retry-After": header})]
    sink = sink_of(collector.url, spool, clock)
    sink.write(matches(1))
    assert sink.retry_s == seconds
    sink._collector.close()


def test_backoff_doubles_to_a_limit_with_jitter() -> None:
    backoff = Backoff(random=lambda: 0.0)
    assert [backoff.delay_s() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    backoff.reset()
    backoff.random = lambda: 1.0
    assert [backoff.delay_s() for _ in range(3)] == [0.5, 1, 2]


def run_down(sink: OtlpSink, clock: Clock, seconds: float, every_s: float) -> int:
    """Send matches while the collector is down; return how many."""
    sent = 0
    end = clock.now + seconds
    while clock.now < end:
        assert sink.write([match(sent)]) == 1
        sent += 1
        clock.now += every_s
        sink.tick()
    return sent


def test_a_minute_without_collector_loses_nothing(
    collector: FakeCollector, spool: Spool, clock: Clock
) -> None:
    collector.answers = [Answer(503)] * 1000
    sink = sink_of(collector.url, spool, clock)
    sent = run_down(sink, clock, MINUTE, 1.0)
    collector.answers = []
    attempts = len(collector.requests)
    assert attempts <= 8
    while spool.matches:
        clock.now += sink.retry_s
        sink.tick()
    assert collector.bodies() == [f'{{"n":{n}}}' for n in range(sent)]
    assert (sink.counters.delivered, sink.counters.dropped) == (sent, 0)
    sink._collector.close()


def test_a_day_without_collector_fills_the_spool_and_counts_the_rest(tmp_path: Path, clock: Clock) -> None:
    spool = Spool(tmp_path / "s", max_bytes=4096, segment_bytes=1024)
    sink = sink_of("http://127.0.0.1:1", spool, clock)  # nothing listens there
    sent = run_down(sink, clock, DAY, 300.0)
    assert spool.size <= 4096
    assert spool.matches + sink.counters.dropped == sent
    assert sink.counters.dropped > 0
    sink.close()


def test_a_restart_delivers_what_was_spooled(collector: FakeCollector, tmp_path: Path, clock: Clock) -> None:
    collector.answers = [Answer(503)]
    first = sink_of(collector.url, Spool(tmp_path / "s"), clock)
    first.write(matches(2))
    first.close()
    second = sink_of(collector.url, Spool(tmp_path / "s"), clock)
    assert second.write(matches(1, 2)) == 1  # queues behind
    while second.status()["spooled"]:
        second.tick()
    assert collector.bodies() == ['{"n":0}', '{"n":1}', '{"n":2}']
    second.close()


def test_without_a_spool_the_queue_keeps(collector: FakeCollector, clock: Clock) -> None:
    collector.answers = [Answer(503)]
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(2)) == 0
    assert sink.write(matches(2)) == 0
    assert len(collector.requests) == 1
    clock.now += sink.retry_s
    assert sink.write(matches(2)) == 2
    assert sink.status() == {}
    sink.close()


def test_a_lost_connection_is_made_again(collector: FakeCollector, clock: Clock) -> None:
    sink = sink_of(collector.url, None, clock)
    assert sink.write(matches(1)) == 1
    sink.reopen()
    assert sink.write(matches(1)) == 1
    sink.close()


@pytest.mark.parametrize("url", ["", "collector:4318", "ftp://h", "http://", "http://h:x", "http://u:p@h:1"])
def test_invalid_endpoints_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="invalid OTLP endpoint"):
        Collector(url)
