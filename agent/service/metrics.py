"""Serves the agent's state in the text format of Prometheus, on the loopback device only.

A state is what `agent status` prints: nested objects of numbers. FAMILIES maps its parts to metrics; a part
that a state lacks has no sample.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from agent.errors import AgentError

State = Mapping[str, Any]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_CLIENT_S = 5.0


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `part` of the state, whose keys at each depth are the values of `labels`."""

    name: str
    kind: str
    help: str
    part: str
    labels: tuple[str, ...] = ()


FAMILIES = (
    Family("fim_uptime_seconds", "gauge", "Seconds since the agent started.", "uptime_s"),
    Family("fim_rules", "gauge", "Rules in force.", "rules"),
    Family("fim_rule_errors", "gauge", "Errors of rules that were left out at the start.", "rule_errors"),
    Family("fim_reloads_total", "counter", "Rule reloads by outcome.", "reloads", ("outcome",)),
    Family("fim_events_total", "counter", "Events by outcome.", "ledger", ("type", "outcome")),
    Family("fim_lost_total", "counter", "Events lost, by cause.", "lost", ("type", "cause")),
    Family("fim_context", "gauge", "Processes and containers: sizes and totals.", "context", ("what",)),
    Family("fim_hash_total", "counter", "Files hashed, and not hashed by reason.", "hash", ("outcome",)),
    Family(
        "fim_rate_limited_total",
        "counter",
        "Matches over the rate limit, by rule.",
        "rate_limited",
        ("rule",),
    ),
    Family("fim_muted", "gauge", "Mutes in force, and matches that they held back.", "muted", ("what",)),
    Family("fim_explained", "gauge", "Matches of package managers: totals.", "explained", ("outcome",)),
    Family("fim_sink", "gauge", "Matches by sink: totals and sizes of queues.", "sinks", ("sink", "what")),
)

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render(state: State) -> str:
    """Render all metrics of a state."""
    return "".join(line + "\n" for family in FAMILIES for line in _family(family, state))


def _family(family: Family, state: State) -> Iterator[str]:
    samples = list(_samples(state.get(family.part), len(family.labels)))
    if not samples:
        return
    yield f"# HELP {family.name} {family.help}"
    yield f"# TYPE {family.name} {family.kind}"
    for values, number in samples:
        pairs = ",".join(
            f'{label}="{value.translate(_ESCAPES)}"'
            for label, value in zip(family.labels, values, strict=True)
        )
        yield f"{family.name}{{{pairs}}} {number}" if pairs else f"{family.name} {number}"


def _samples(part: Any, depth: int) -> Iterator[tuple[tuple[str, ...], int | float]]:
    """Yield the numbers at `depth` levels, with the keys on the way."""
    if depth == 0:
        if isinstance(part, int | float):
            yield (), part
    elif isinstance(part, Mapping):
        for key, below in part.items():
            for values, number in _samples(below, depth - 1):
                yield (str(key), *values), number


class MetricsServer:
    """Answers `GET /metrics` on 127.0.0.1; port 0 chooses a free one. Raises AgentError if it is in use."""

    def __init__(self, port: int, state: Callable[[], State]) -> None:
        try:
            self._server = HTTPServer(("127.0.0.1", port), _handler(state))
        except OSError as error:
            raise AgentError(
                f"cannot serve metrics on port {port}: {error.strerror}",
                hint="choose another port with --metrics-port",
            ) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(state: Callable[[], State]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _CLIENT_S

        def do_GET(self) -> None:
            if self.path != "/metrics":
                self.send_error(404)
                return
            content = render(state()).encode()
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's signature
            """Do not log requests."""

    return Handler
