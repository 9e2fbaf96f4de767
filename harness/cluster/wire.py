"""What the run of a part reports while it runs: a line of JSON for each event, from the child to the client.

The child writes the lines to its standard output, the worker publishes them, and the client shows them.
"""

from __future__ import annotations

import json
import threading
from typing import Any, NamedTuple, TextIO

from pydantic import ValidationError

from harness.host.progress import Event, Phase, Step
from harness.plan.plan import Plan
from harness.results.model import TestResult
from harness.run.times import Estimate
from harness.text import one_line

MAX_LINE = 1 << 20  # bytes; a longer event is not shown, and its result is in the output folder


class Tested(NamedTuple):
    """The result of a test of a cell; it is not `final` if the test failed and runs again."""

    cell: str
    result: TestResult
    final: bool = True


class Writer:
    """A `View` that writes events to `stream`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def __call__(self, event: Event, /) -> None:
        """Write a remark or a step."""
        self._write(["step", event.to_wire()] if isinstance(event, Step) else ["line", one_line(event)])

    def plan(self, plan: Plan, estimate: Estimate) -> None:
        """Write nothing: the client has the plan."""

    def repeated(self, cell: str, result: TestResult) -> None:
        """Write the failure of a test that runs again."""
        self._write(["failed", cell, result.model_dump(mode="json")])

    def ended(self, cell: str, result: TestResult) -> None:
        """Write the result of a test."""
        self._write(["test", cell, result.model_dump(mode="json")])

    def _write(self, event: list[Any]) -> None:
        with self._lock:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()


def phase_of(line: bytes) -> Phase | None:
    """Return the phase of a step; None for any other line."""
    event = parse(line) if line.startswith(b'["step"') else None
    return event.phase if isinstance(event, Step) else None


def parse(line: bytes) -> Event | Tested | None:
    """Return the remark, the step, or the result of a test in a line; None if it is none of them."""
    try:
        kind, *rest = json.loads(line)
        if kind in ("test", "failed"):
            return Tested(str(rest[0]), TestResult.model_validate(rest[1]), kind == "test")
        if kind == "step":
            phase, *words = rest[0]
            return Step.from_wire(
                (phase, *(one_line(word) if isinstance(word, str) else int(word) for word in words))
            )
        return one_line(str(rest[0]))
    except (ValueError, TypeError, IndexError, ValidationError, RecursionError):
        return None  # a library printed it
