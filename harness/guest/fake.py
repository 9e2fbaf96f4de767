"""A guest without a machine, for tests: answers that were written down beforehand."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from harness.guest.base import STDERR, STDOUT, Completed, GuestLostError, GuestTimeoutError, Output

Answer = Callable[[Sequence[str]], Completed]


class FakeChannel:
    """A `base.Channel` that plays `lines`; what was written to it is in `written`.

    A line that is an exception is raised. After the last line the program has ended with `status`.
    """

    def __init__(
        self, lines: Sequence[bytes | Exception] = (), *, status: int = 0, stderr: bytes = b""
    ) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self._lines = deque(lines)
        self._status = status
        self._stderr = stderr

    def readline(self, timeout_s: float) -> bytes | None:
        """The next line that was written down, at once."""
        if timeout_s < 0:
            raise GuestTimeoutError("a fake was asked too late")
        line = self._lines.popleft() if self._lines else None
        if isinstance(line, Exception):
            raise line
        return line

    def write(self, data: bytes) -> None:
        """Remembers it."""
        if self.closed:
            raise GuestLostError("the channel is closed")
        self.written.append(data)

    def stderr_tail(self) -> bytes:
        """What was written down."""
        return self._stderr

    def wait(self, timeout_s: float) -> int:  # noqa: ARG002 - a fake does not wait
        """What was written down."""
        return self._status

    def close(self) -> None:
        """Remembers that it was closed."""
        self.closed = True


class FakeGuest:
    """A `base.Guest` whose commands are answered by `answer` and whose files are a dictionary."""

    def __init__(self, answer: Answer | None = None, channel: FakeChannel | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.commands: list[tuple[str, ...]] = []
        self.read = b""
        self.closed = False
        self._answer = answer or (lambda _argv: Completed(0, b"", b""))
        self._channel = channel or FakeChannel()

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:  # noqa: ARG002
        """Remembers the command and answers it."""
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
        name: str = "",  # noqa: ARG002
    ) -> int:
        """Answers the command like `run`; what it was given to read is in `read`."""
        done = self.run(argv, timeout_s)
        if stdin is not None:
            while data := os.read(stdin, 1 << 16):
                self.read += data
        for number, data in ((STDOUT, done.stdout), (STDERR, done.stderr)):
            if data:
                output(number, data)
        return done.status

    def open_channel(self, argv: Sequence[str]) -> FakeChannel:
        """Remembers the command; every program is the same."""
        self._alive()
        self.commands.append(tuple(argv))
        return self._channel

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Remembers the file."""
        self.put_bytes(local.read_bytes(), remote, mode)

    def put_bytes(self, data: bytes, remote: str, mode: int = 0o644) -> None:  # noqa: ARG002
        """Remembers the file."""
        self._alive()
        self.files[remote] = data

    def get(self, remote: str, local: Path) -> None:
        """Copies what was put."""
        self._alive()
        if remote not in self.files:
            raise FileNotFoundError(remote)
        local.write_bytes(self.files[remote])

    def ping(self, timeout_s: float = 30) -> None:
        """Runs `true`."""
        self.run(["true"], timeout_s)

    def close(self) -> None:
        """From now on it is lost."""
        self.closed = True

    def _alive(self) -> None:
        if self.closed:
            raise GuestLostError("the connection is closed")
