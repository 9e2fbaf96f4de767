"""What the harness does with a guest, whoever provides it: `ssh` over paramiko, `fake` for tests.

GuestError                InfrastructureError: says nothing about the agent until the machine was asked
+-- GuestLostError        the connection ended
+-- GuestTimeoutError     the connection stands, the answer did not come in time
+-- GuestFileError        the guest's file system refused: full, read-only, no such folder
+-- TooMuchOutputError    a command, or a line of a channel, wrote more than its bound
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HungError, InfrastructureError
from harness.guest.keys import GuestKeys

_FIRST_SIGNAL = 128


class GuestError(InfrastructureError):
    """Something between the harness and a guest failed."""


class GuestLostError(GuestError):
    """The connection to the guest ended."""


class GuestTimeoutError(GuestError, HungError):
    """The guest did not answer in time."""


class GuestFileError(GuestError):
    """The guest's file system refused."""


class TooMuchOutputError(GuestError):
    """A command, or a line of a channel, wrote more than its bound."""


@dataclass(frozen=True)
class Endpoint:
    """Where a guest is reached, with which keys, and a private directory for what else a client needs."""

    host: str
    port: int
    keys: GuestKeys
    directory: Path


@dataclass(frozen=True)
class Completed:
    """A command that ended. `status` is a shell's: 128 + n for a command that signal n ended."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def signal(self) -> int | None:
        """The signal that ended it, if one did."""
        return self.status - _FIRST_SIGNAL if self.status > _FIRST_SIGNAL else None


STDOUT, STDERR = 1, 2

Output = Callable[[int, bytes], None]
"""Takes what a command writes, as it comes: STDOUT or STDERR, and the bytes."""


class Channel(Protocol):
    """A program in the guest that is spoken to in lines."""

    def readline(self, timeout_s: float) -> bytes | None:
        """The next line of its stdout without the newline; None at its end.

        Raises GuestTimeoutError, GuestLostError, TooMuchOutputError.
        """

    def write(self, data: bytes) -> None:
        """Writes to its stdin, all of it. Raises GuestLostError."""

    def stderr_tail(self) -> bytes:
        """The last of what it wrote to stderr until now."""

    def wait(self, timeout_s: float) -> int:
        """Its status once it has ended, as in `Completed`. Raises GuestTimeoutError, GuestLostError."""

    def close(self) -> None:
        """Closes its stdin and output; may be called again."""


class Guest(Protocol):
    """A guest that can be reached."""

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:
        """Runs a command to its end, with nothing to read.

        Raises GuestTimeoutError, GuestLostError, TooMuchOutputError.
        """

    def stream(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        timeout_s: float = math.inf,
        stdin: int | None = None,
        name: str = "",
    ) -> int:
        """Runs a command and passes its output on as it comes; returns its status, as in `Completed`.

        The command reads what the file descriptor `stdin` yields; None is an empty input. It ends when the
        command itself ends: processes that it leaves in the background do not hold it. Errors call the
        command `name` (default: all of its words). What `output` raises passes through.

        Raises GuestTimeoutError, GuestLostError.
        """

    def open_channel(self, argv: Sequence[str]) -> Channel:
        """Starts a program to speak with. Raises GuestLostError."""

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Copies a file into the guest, whole or not at all. Raises GuestLostError, GuestFileError."""

    def put_bytes(self, data: bytes, remote: str, mode: int = 0o644) -> None:
        """Writes a file in the guest, whole or not at all. Raises GuestLostError, GuestFileError."""

    def get(self, remote: str, local: Path) -> None:
        """Copies a file out of the guest, whole or not at all.

        Raises FileNotFoundError, GuestLostError, GuestFileError.
        """

    def ping(self, timeout_s: float = 30) -> None:
        """Runs a real command. Raises GuestTimeoutError, GuestLostError."""

    def close(self) -> None:
        """Closes the connection; may be called again."""
