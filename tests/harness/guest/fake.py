"""A guest without a machine, for tests: it answers from data that the test prepared."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.guest.base import STDERR, STDOUT, Completed, GuestLostError, GuestTimeoutError, Output

Answer = Callable[[Sequence[str]], Completed]


class FakeChannel:
    """A `base.Channel` that returns `lines` one by one and records what is written to it in `written`.

    A line that is an exception is raised. After the last line the program has ended with `status`.
    """

    def __init__(
        self, lines: Sequence[bytes | Exception] = (), *, status: int = 0, stderr: bytes = b""
    ) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.waited: list[float] = []  # the limit of each wait for a line, in seconds
        self._lines = deque(lines)
        self._status = status
        self._stderr = stderr

    def readline(self, timeout_s: float) -> bytes | None:
        """Return the next line at once."""
        if timeout_s < 0:
            raise GuestTimeoutError("the deadline passed before readline was called")
        self.waited.append(timeout_s)
        line = self._lines.popleft() if self._lines else None
        if isinstance(line, Exception):
            raise line
        return line

    def write(self, data: bytes) -> None:
        """Record the data."""
        if self.closed:
            raise GuestLostError("the channel is closed")
        self.written.append(data)

    def stderr_tail(self) -> bytes:
        """Return the prepared stderr."""
        return self._stderr

    def wait(self, timeout_s: float) -> int:
        """Return the prepared status."""
        return self._status

    def close(self) -> None:
        """Record that the channel was closed."""
        self.closed = True


class FakeGuest:
    """A `base.Guest` that answers commands by `answer` and keeps its files in a dictionary."""

    def __init__(self, answer: Answer | None = None, channel: FakeChannel | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.commands: list[tuple[str, ...]] = []
        self.read = b""
        self.closed = False
        self._answer = answer or (lambda _argv: Completed(0, b"", b""))
        self._channel = channel or FakeChannel()

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:
        """Record the command and answer it."""
        self._alive()
        self.commands.append(tuple(argv))
        return self._answer(argv)

    def stream(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        timeout_s: float = math.inf,
        stdin: int | None = None,
        name: str = "",
    ) -> int:
        """Answer the command like `run`; its stdin is recorded in `read`."""
        done = self.run(argv, timeout_s)
        if stdin is not None:
            while data := os.read(stdin, 1 << 16):
                self.read += data
        for number, data in ((STDOUT, done.stdout), (STDERR, done.stderr)):
            if data:
                output(number, data)
        return done.status

    def open_channel(self, argv: Sequence[str]) -> FakeChannel:
        """Record the command; every program has the same channel."""
        self._alive()
        self.commands.append(tuple(argv))
        return self._channel

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Record the file."""
        self.put_bytes(local.read_bytes(), remote, mode)

    def put_bytes(self, data: bytes, remote: str, mode: int = 0o644) -> None:
        """Record the file."""
        self._alive()
        self.files[remote] = data

    def get(self, remote: str, local: Path) -> None:
        """Copy a recorded file."""
        self._alive()
        if remote not in self.files:
            raise FileNotFoundError(remote)
        local.write_bytes(self.files[remote])

    def ping(self, timeout_s: float = 30) -> None:
        """Run `true`."""
        self.run(["true"], timeout_s)

    def close(self) -> None:
        """Close the connection: every later call raises GuestLostError."""
        self.closed = True

    def _alive(self) -> None:
        if self.closed:
            raise GuestLostError("the connection is closed")
