"""Runs scripts in the generator: a process other than the agent that makes known file events."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from agent.errors import AgentError

READ_SIZE = 1 << 16  # bytes; what a pipe holds

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:=@~")


def quote(path: bytes) -> str:
    """A path as a word of a script: whatever its bytes, one word comes of them, and no %d."""
    if not path:
        raise ValueError("a script has no word for the empty path")
    return "".join(chr(b) if b in _PLAIN else "%%" if b == ord("%") else f"\\x{b:02x}" for b in path)


def unquote(word: str) -> bytes:
    """The bytes that `quote` was given, but for %d and %%, which stay."""
    return word.encode("ascii").decode("unicode_escape").encode("latin-1")


class WorkloadError(AgentError):
    """The generator could not do what a scenario asked for: nothing is known about the agent then."""


class OverdueError(WorkloadError):
    """A script did not end in its time."""


class LineReport(NamedTuple):
    """What the kernel returned for one line of a script, in one process.

    In a loop `ok` and `failed` are counts over all turns and `ret` is the last result. Times are nanoseconds
    of CLOCK_BOOTTIME before the first and after the last call; `late_ns` is how far a `rate` fell behind.
    """

    line: int
    call: str
    pid: int
    tid: int
    ppid: int
    uid: int
    gid: int
    ok: int
    failed: int
    errors: dict[int, int]  # errno -> count
    ret: int
    status: int
    first_ns: int
    last_ns: int
    late_ns: int

    @property
    def seconds(self) -> float:
        """From before the first call to after the last."""
        return (self.last_ns - self.first_ns) / 1e9


class Outcome(NamedTuple):
    """A script that ran to its end, and what came of each line."""

    script: str
    reports: tuple[LineReport, ...]

    def of(self, call: str) -> tuple[LineReport, ...]:
        """The reports of one kind of call, in the order in which they came."""
        return tuple(report for report in self.reports if report.call == call)

    def at(self, line: int) -> LineReport:
        """The one report of a line, counted from 1."""
        (report,) = (report for report in self.reports if report.line == line)
        return report

    @property
    def failures(self) -> Counter[str]:
        """How often each line failed, keyed by what a person can look up: `unlink:2 errno 13`."""
        return Counter(
            {
                f"{report.call}:{report.line} errno {error}": count
                for report in self.reports
                for error, count in report.errors.items()
            }
        )


class Workload:
    """One running generator. Between its hello and its end it touches files only by the lines of a script."""

    def __init__(self, binary: Path, patience_s: float = 10.0) -> None:
        self.patience_s = patience_s
        self.binary = binary
        self._buffer = b""
        self._script = ""
        self._reports: list[LineReport] = []
        self._process = subprocess.Popen(
            [binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, start_new_session=True
        )
        os.set_blocking(self.fileno(), False)
        self.pid = int(self._hello()["pid"])

    def fileno(self) -> int:
        """The descriptor that becomes readable when `advance` has something to do."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def begin(self, script: str) -> None:
        """Hand over a script; it starts at once. Raises WorkloadError when the generator is gone."""
        self._script = script
        self._reports = []
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(script.rstrip("\n").encode("ascii") + b"\ngo\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkloadError("the generator ended before its script") from error

    def advance(self) -> Outcome | None:
        """Take in what is reported by now, without waiting; the outcome once the script is through."""
        for message in self._messages():
            if "error" in message:
                raise WorkloadError(
                    f"line {message['line']} of the script: {message['error']}", detail=self._script
                )
            if "done" in message:
                return Outcome(self._script, tuple(self._reports))
            self._reports.append(_report_of(message))
        return None

    def run(self, script: str) -> Outcome:
        """Run a script with nobody watching: for what a scenario prepares and cleans up."""
        self.begin(script)
        deadline = time.monotonic() + self.patience_s
        while (outcome := self.advance()) is None:
            self._wait(deadline)
        return outcome

    def close(self) -> None:
        """End the generator and all that it started."""
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        try:
            self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, 9)
            self._process.wait()

    def _hello(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.patience_s
        while True:
            self._wait(deadline)
            for message in self._messages():
                return message

    def _wait(self, deadline: float) -> None:
        ready, _, _ = select.select([self], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise WorkloadError(
                f"the generator said nothing for {self.patience_s:.0f} s", detail=self._script
            )

    def _messages(self) -> list[dict[str, Any]]:
        try:
            data = os.read(self.fileno(), READ_SIZE)
        except BlockingIOError:
            return []
        if not data:
            raise WorkloadError(
                f"the generator ended with status {self._process.wait(1.0)}", detail=self._script
            )
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]


def _report_of(message: dict[str, Any]) -> LineReport:
    errors = {int(error): count for error, count in message.pop("errors").items()}
    known = {name: message[name] for name in LineReport._fields if name in message}
    return LineReport(errors=errors, **known)
