"""The protocol of a guest and its errors; `ssh` implements it over paramiko.

GuestError                InfrastructureError: no evidence against the agent until the machine was checked
+-- GuestLostError        the connection ended
+-- GuestTimeoutError     the connection exists, but the guest did not answer in time
+-- GuestFileError        the guest's file system returned an error: full, read-only, no such folder
+-- TooMuchOutputError    a command, or a line of a channel, printed more than its limit
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import HungError, InfrastructureError
from harness.guest.keys import GuestKeys

MAX_FILE = 256 << 20  # bytes that `get` copies

_FIRST_SIGNAL = 128


class GuestError(InfrastructureError):
    """An operation in a guest failed."""


class GuestLostError(GuestError):
    """The connection to the guest ended."""


class GuestTimeoutError(GuestError, HungError):
    """The guest did not answer in time."""


class GuestFileError(GuestError):
    """The guest's file system returned an error."""


class TooMuchOutputError(GuestError):
    """A command, or a line of a channel, printed more than its limit."""


@dataclass(frozen=True)
class Endpoint:
    """The address and keys of a guest, and a private directory for the files of an ssh client."""

    host: str
    port: int
    keys: GuestKeys
    directory: Path


@dataclass(frozen=True)
class Completed:
    """A command that ended. `status` is as in a shell: 128 + n if signal n ended the command."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def signal(self) -> int | None:
        """The signal that ended the command, or None."""
        return self.status - _FIRST_SIGNAL if self.status > _FIRST_SIGNAL else None


STDOUT, STDERR = 1, 2

Output = Callable[[int, bytes], None]
"""Receives the output of a command as it arrives: STDOUT or STDERR, and the bytes."""


class Channel(Protocol):
    """A running program in the guest that reads and writes lines."""

    def readline(self, timeout_s: float) -> bytes | None:
        """Return the next line of its stdout without the newline; None at the end of its output.

        Raises GuestTimeoutError, GuestLostError, TooMuchOutputError.
        """

    def write(self, data: bytes) -> None:
        """Write all of `data` to its stdin. Raises GuestLostError.

        What is written to a program that has ended is lost: `readline` reports the end.
        """

    def stderr_tail(self) -> bytes:
        """Return the last bytes that it has written to stderr."""

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; return its status as in `Completed`. Raises GuestTimeoutError, GuestLostError."""

    def close(self) -> None:
        """Close its stdin and output; may be called again."""


class Guest(Protocol):
    """A running guest with an open connection."""

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:
        """Run a command to its end, with an empty stdin.

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
        """Run a command and pass its output to `output` as it arrives; return its status as in `Completed`.

        The command reads from the file descriptor `stdin`; None is an empty input. The call returns when the
        command ends, also if it leaves processes in the background. Errors call the command `name` (default:
        all of its words). Errors of `output` pass through.

        Raises GuestTimeoutError, GuestLostError.
        """

    def open_channel(self, argv: Sequence[str]) -> Channel:
        """Start a program and return a channel to it. Raises GuestLostError."""

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Copy a file into the guest, completely or not at all. Raises GuestLostError, GuestFileError."""

    def put_bytes(self, data: bytes, remote: str, mode: int = 0o644) -> None:
        """Write a file in the guest, completely or not at all. Raises GuestLostError, GuestFileError."""

    def get(self, remote: str, local: Path) -> None:
        """Copy a file out of the guest, completely or not at all.

        Raises FileNotFoundError, GuestLostError, and GuestFileError, also for a file of more than MAX_FILE.
        """

    def ping(self, timeout_s: float = 30) -> None:
        """Run a real command, to check that the guest works. Raises GuestTimeoutError, GuestLostError."""

    def close(self) -> None:
        """Close the connection; may be called again."""
