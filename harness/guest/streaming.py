"""A command's output over SSH: both streams whole, as they come, until the command itself ends.

The end of a command is not the end of its output: a process that it left in the background keeps both
streams open, and sshd may report the exit status before it has sent the last bytes. So the guest's shell
writes a mark, with the status, behind all that the command wrote, to both streams.
"""

from __future__ import annotations

import math
import os
import secrets
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import paramiko

from harness.guest.base import STDERR, STDOUT, GuestLostError, GuestTimeoutError, Output

_CHUNK = 1 << 15
_SIGN = b"\x1e"
_STATUS_DIGITS = 3


@contextmanager
def guest_errors(what: str) -> Iterator[None]:
    """Raises errors of paramiko and of sockets as a GuestError; FileNotFoundError passes."""
    try:
        yield
    except FileNotFoundError:
        raise
    except TimeoutError as error:
        raise GuestTimeoutError(f"{what}: no answer in time") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise GuestLostError(f"{what}: {error or type(error).__name__}") from error


def new_mark() -> str:
    """A word that no command prints by chance."""
    return secrets.token_hex(8)


def marked(command: str, mark: str) -> str:
    """A line for the guest's shell: the command, then the mark and its status on both streams."""
    # In a subshell, so that a command such as `exit` does not end the shell that writes the marks, whose own
    # words about a command that a signal killed go nowhere.
    write = f"printf '\\036{mark} %d\\036' $status"
    return f"exec 3>&2 2>/dev/null; ({command}) 2>&3 3>&-; status=$?; {write}; {write} >&3; exit $status"


def feed(session: paramiko.Channel, stdin: int | None, name: str) -> None:
    """Passes a file descriptor on to the command, from a thread; None ends its input at once."""
    if stdin is None:
        with guest_errors(f"cannot write to {name}"):
            session.shutdown_write()
        return

    def pump() -> None:
        # The command may end before its input: then there is nobody to write to, which is no error.
        with suppress(OSError, EOFError, paramiko.SSHException):
            while data := os.read(stdin, _CHUNK):
                session.sendall(data)
            session.shutdown_write()

    threading.Thread(target=pump, name="stdin", daemon=True).start()


class Reader:
    """Reads a marked command's streams to the marks."""

    def __init__(self, session: paramiko.Channel, mark: str, name: str) -> None:
        self._session = session
        self._name = name
        self._ends = {number: _End(mark) for number in (STDOUT, STDERR)}
        self._poll = select.poll()
        self._poll.register(session.fileno(), select.POLLIN)

    def read(self, output: Output, deadline: float) -> int:
        """The status; see `Guest.stream`. `deadline` is on the monotonic clock."""
        while None in (statuses := [end.status for end in self._ends.values()]):
            # Asked before the data: what came before the end has arrived by then.
            over = self._session.eof_received or self._session.closed
            if self._pass_on(output):
                continue
            if over:
                return self._unmarked(output)
            self._await_data(deadline)
        assert statuses[0] is not None
        return statuses[0]

    def _pass_on(self, output: Output) -> bool:
        """Hands on what has arrived; False if nothing had."""
        session = self._session
        sources = (
            (STDOUT, session.recv_ready, session.recv),
            (STDERR, session.recv_stderr_ready, session.recv_stderr),
        )
        found = False
        for number, ready, receive in sources:
            if ready():
                found = True
                if data := self._ends[number].before(receive(_CHUNK)):
                    output(number, data)
        return found

    def _await_data(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not self._poll.poll(None if math.isinf(left) else max(1.0, left * 1000)):
            raise GuestTimeoutError(f"{self._name}: no answer in time")

    def _unmarked(self, output: Output) -> int:
        """The status where the marks are missing. Raises GuestLostError where there is none either."""
        for number, end in self._ends.items():
            if end.held:
                output(number, end.held)
        status = self._session.recv_exit_status() if self._session.status_event.is_set() else -1
        if status >= 0:
            return status
        transport = self._session.transport
        killed = transport is not None and transport.is_active()
        why = "the guest's shell was killed" if killed else "the connection ended before it did"
        raise GuestLostError(f"{self._name}: {why}")


class _End:
    """Finds the mark in one stream; `status` is None until it was seen."""

    def __init__(self, mark: str) -> None:
        self.status: int | None = None
        self.held = b""  # may be the beginning of the mark
        self._mark = _SIGN + mark.encode() + b" "

    def before(self, data: bytes) -> bytes:
        """The part of what came next that is the command's own."""
        if self.status is not None:
            return b""  # of a process in the background
        data = self.held + data
        at = self._start(data)
        own, self.held = data[:at], data[at:]
        status, end, _ = self.held[len(self._mark) :].partition(_SIGN)
        if end and status.isdigit():
            self.status, self.held = int(status), b""
        elif len(self.held) > len(self._mark) + _STATUS_DIGITS:
            own, self.held = data, b""  # the command's own imitation of a mark
        return own

    def _start(self, data: bytes) -> int:
        """Where the mark begins, or what may become one; the length of the data if nowhere."""
        at = data.find(self._mark)
        if at >= 0:
            return at
        at = data.rfind(_SIGN)
        return at if at >= 0 and self._mark.startswith(data[at:]) else len(data)
