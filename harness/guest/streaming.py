"""Reads a command's output over SSH completely, as it arrives, until the command itself ends.

The streams may stay open after the command: a process that it left in the background has them too. And sshd
may report the exit status before it has sent the last bytes. So the guest's shell writes a mark with the
status to both streams after the output of the command.
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
    """Turn errors of paramiko and of sockets into a GuestError; FileNotFoundError passes through."""
    try:
        yield
    except FileNotFoundError:
        raise
    except TimeoutError as error:
        raise GuestTimeoutError(f"{what}: no answer in time") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise GuestLostError(f"{what}: {error or type(error).__name__}") from error


def new_mark() -> str:
    """Return a random word that no command prints by chance."""
    return secrets.token_hex(8)


def marked(command: str, mark: str) -> str:
    """Return a line for the guest's shell: the command, then the mark and its status on both streams."""
    # The command runs in a subshell, so that `exit` in it does not end the shell that writes the marks. The
    # outer shell has no stderr, because it would report a command that a signal killed.
    write = f"printf '\\036{mark} %d\\036' $status"
    return f"exec 3>&2 2>/dev/null; ({command}) 2>&3 3>&-; status=$?; {write}; {write} >&3; exit $status"


def feed(session: paramiko.Channel, stdin: int | None, name: str) -> None:
    """Copy a file descriptor to the command's stdin in a thread; None closes the stdin at once."""
    if stdin is None:
        with guest_errors(f"cannot write to {name}"):
            session.shutdown_write()
        return

    def pump() -> None:
        # The command may end before its input does, which is no error.
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
        """Return the status; see `Guest.stream`. `deadline` is on the monotonic clock."""
        while None in (statuses := [end.status for end in self._ends.values()]):
            # Check for the end before checking for data, so that data before the end is not lost.
            over = self._session.eof_received or self._session.closed
            if self._pass_on(output):
                continue
            if over:
                return self._unmarked(output)
            self._await_data(deadline)
        assert statuses[0] is not None
        return statuses[0]

    def _pass_on(self, output: Output) -> bool:
        """Pass on the data that has arrived; return False if none had."""
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
        """Return the status that sshd reported without the marks. Raises GuestLostError if it did not."""
        for number, end in self._ends.items():
            if end.held:
                output(number, end.held)
        status = self._session.recv_exit_status() if self._session.status_event.is_set() else -1
        if status >= 0:
            return status
        transport = self._session.transport
        killed = transport is not None and transport.is_active()
        why = "the guest's shell was killed" if killed else "the connection ended before the command"
        raise GuestLostError(f"{self._name}: {why}")


class _End:
    """Finds the mark in one stream; `status` is None until the mark was found."""

    def __init__(self, mark: str) -> None:
        self.status: int | None = None
        self.held = b""  # may be the beginning of the mark
        self._mark = _SIGN + mark.encode() + b" "

    def before(self, data: bytes) -> bytes:
        """Return the part of `data` that the command printed."""
        if self.status is not None:
            return b""  # from a process in the background
        data = self.held + data
        at = self._start(data)
        own, self.held = data[:at], data[at:]
        status, end, _ = self.held[len(self._mark) :].partition(_SIGN)
        if end and status.isdigit():
            self.status, self.held = int(status), b""
        elif len(self.held) > len(self._mark) + _STATUS_DIGITS:
            own, self.held = data, b""  # printed by the command, no mark
        return own

    def _start(self, data: bytes) -> int:
        """Return where the mark begins, or may begin; the length of the data if nowhere."""
        at = data.find(self._mark)
        if at >= 0:
            return at
        at = data.rfind(_SIGN)
        return at if at >= 0 and self._mark.startswith(data[at:]) else len(data)
