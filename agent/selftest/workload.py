"""Runs scripts in the generator, a separate process that generates known file events."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.errors import AgentError

READ_SIZE = 1 << 16  # bytes; the capacity of a pipe

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+,:=@~")


def quote(path: bytes) -> str:
    """Return a path of any bytes as one word of a script, with escapes."""
    if not path:
        raise ValueError("a script cannot contain an empty path")
    return "".join(chr(b) if b in _PLAIN else "%%" if b == ord("%") else f"\\x{b:02x}" for b in path)


def unquote(word: str) -> bytes:
    """Return the bytes of a quoted word. `%d` and `%%` stay as they are."""
    return word.encode("ascii").decode("unicode_escape").encode("latin-1")


class WorkloadError(AgentError):
    """The generator could not run the script, so the scenario proves nothing about the agent."""


class OverdueError(WorkloadError):
    """A script did not end in time."""


class LineReport(NamedTuple):
    """The results of one line of a script, in one process.

    In a loop `ok` and `failed` count all iterations, and `ret` is the last result. Times are nanoseconds of
    CLOCK_BOOTTIME, before the first and after the last call. `late_ns` is how late a `rate` was at most.
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
        """The time from before the first call to after the last."""
        return (self.last_ns - self.first_ns) / 1e9


class Outcome(NamedTuple):
    """A script that ran to its end, and the report of each line."""

    script: str
    reports: tuple[LineReport, ...]

    def of(self, call: str) -> tuple[LineReport, ...]:
        """Return the reports of one system call, in order."""
        return tuple(report for report in self.reports if report.call == call)

    def at(self, line: int) -> LineReport:
        """Return the only report of a line, counted from 1."""
        (report,) = (report for report in self.reports if report.line == line)
        return report

    @property
    def failures(self) -> Counter[str]:
        """The number of failures by call, line and error, such as `unlink:2 errno 13`."""
        return Counter(
            {
                f"{report.call}:{report.line} errno {error}": count
                for report in self.reports
                for error, count in report.errors.items()
            }
        )


class Workload:
    """A running generator. After its first message it accesses files only by the lines of a script."""

    def __init__(self, binary: Path, patience_s: float = 10.0, prefix: Sequence[str] = ()) -> None:
        self.patience_s = patience_s
        self.binary = binary
        self._buffer = b""
        self._script = ""
        self._reports: list[LineReport] = []
        self._process = subprocess.Popen(
            [*prefix, binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, start_new_session=True
        )
        os.set_blocking(self.fileno(), False)
        self.pid = int(self._hello()["pid"])

    def fileno(self) -> int:
        """Return a descriptor that is readable while messages for `advance` are waiting."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def begin(self, script: str) -> None:
        """Start a script. Raises WorkloadError if the generator has ended."""
        self._script = script
        self._reports = []
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(script.rstrip("\n").encode("ascii") + b"\ngo\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise WorkloadError("the generator ended before its script") from error

    def advance(self) -> Outcome | None:
        """Read the waiting reports. Return the outcome if the script has ended, else None."""
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
        """Run a script to its end."""
        self.begin(script)
        deadline = time.monotonic() + self.patience_s
        while (outcome := self.advance()) is None:
            self._wait(deadline)
        return outcome

    def close(self) -> None:
        """End the generator and its children."""
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
                f"the generator sent nothing for {self.patience_s:.0f} s", detail=self._script
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
