"""The agent's self-test server in a guest, spoken to over one channel; see `agent.selftest.protocol`.

What the server says is checked strictly: a reply to another question, a line that is no message or an early
end is never taken for an answer.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agent.selftest import protocol
from harness.errors import ProductError, RefusedError
from harness.guest.base import Channel, Guest, TooMuchOutputError
from harness.guest.deploy import TARGET

SERVE = ("env", "-C", TARGET, "python3", "-m", "agent", "selftest", "--serve")

# What the server imports that is not the agent's own: more than half of the time in which it starts.
_SETTLED = "argparse ctypes dataclasses hashlib json mmap pathlib shutil signal subprocess yaml"
_WAIT = (
    f"import os, sys, {', '.join(_SETTLED.split())}; os.read(0, 1); "
    "from agent.cli import main; sys.exit(main(['selftest', '--serve']))"
)
STAND_BY = (*SERVE[:4], "-c", _WAIT)

_QUIT_S = 10.0

_Reply = TypeVar("_Reply", protocol.Hello, protocol.Loaded, protocol.Ran, protocol.Pong, protocol.Bye)

Note = Callable[[str, bytes], None]
"""Takes "sent" or "received" and a line of the protocol, for a log."""


class BrokenServerError(ProductError):
    """The server ended early or broke the protocol; `detail` is the end of its stderr."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(": ".join([message, *detail.strip().splitlines()[-1:]]))
        self.detail = detail


def _ignore(_direction: str, _line: bytes) -> None:
    return


def stand_by(guest: Guest) -> Channel:
    """An interpreter that has imported nothing of the agent yet, and waits to be `start`ed as its server."""
    return guest.open_channel(STAND_BY)


class SelftestClient:
    """One conversation.

    Every method raises RefusedError, BrokenServerError, GuestTimeoutError, GuestLostError.
    """

    def __init__(self, channel: Channel, note: Note = _ignore) -> None:
        self._channel = channel
        self._note = note
        self._ids = itertools.count(1)
        self.hooks: tuple[Any, ...] = ()  # as the server told them when it ended

    @classmethod
    def start(
        cls, guest: Guest, deadline_s: float, note: Note = _ignore, *, waiting: Channel | None = None
    ) -> SelftestClient:
        """Starts the server in the guest, or has the one go on that is `waiting`; waits for its greeting."""
        if waiting:
            waiting.write(b"\n")
        client = cls(waiting or guest.open_channel(SERVE), note)
        greeting = client._receive(protocol.Hello, time.monotonic() + deadline_s)
        if greeting.hello != protocol.VERSION:
            raise client._broken(f"the server speaks version {greeting.hello} of the protocol")
        return client

    def load(
        self, hookset: str, btf: str, transport: str, deadline_s: float, events: Sequence[str] = ()
    ) -> protocol.Loaded:
        """Loads and attaches one variant, with any `events` only what these need."""
        request = protocol.Load(next(self._ids), hookset, btf, transport, tuple(events))
        return self._ask(request, protocol.Loaded, deadline_s)

    def test(self, name: str, deadline_s: float) -> protocol.Ran:
        """Runs one scenario."""
        ran = self._ask(protocol.Run(next(self._ids), name), protocol.Ran, deadline_s)
        if ran.name != name:
            raise self._broken(f"asked for {name}, was told of {ran.name}")
        return ran

    def ping(self, deadline_s: float) -> bool:
        """Whether a variant is loaded; that it answers at all shows that the server is alive."""
        return self._ask(protocol.Ping(next(self._ids)), protocol.Pong, deadline_s).loaded

    def quit(self, deadline_s: float = _QUIT_S) -> int:
        """Ends the server; returns its status."""
        self.hooks = self._ask(protocol.Quit(next(self._ids)), protocol.Bye, deadline_s).hooks
        return self._channel.wait(deadline_s)

    def stderr(self) -> bytes:
        """The last of what the server said beside the protocol."""
        return self._channel.stderr_tail()

    def close(self) -> None:
        """Closes the channel, which ends the server; may be called again."""
        self._channel.close()

    def _ask(self, request: protocol.Request, kind: type[_Reply], deadline_s: float) -> _Reply:
        line = protocol.encode(request)
        self._note("sent", line)
        self._channel.write(line)
        return self._receive(kind, time.monotonic() + deadline_s, request.id)

    def _receive(self, kind: type[_Reply], deadline: float, wanted: int = 0) -> _Reply:
        try:
            line = self._channel.readline(max(0.0, deadline - time.monotonic()))
        except TooMuchOutputError as error:
            raise self._broken(error.message) from error
        if line is None:
            raise self._broken("the self-test server ended")
        self._note("received", line)
        try:
            reply = protocol.decode_reply(line)
        except protocol.ProtocolError as error:
            raise self._broken(f"the self-test server answered what it may not: {error}") from error
        if isinstance(reply, protocol.Refused):
            raise RefusedError(reply.error, hint=reply.hint, detail=reply.detail)
        if not isinstance(reply, kind) or (wanted and getattr(reply, "id", None) != wanted):
            raise self._broken(f"the self-test server answered another question: {type(reply).__name__}")
        return reply

    def _broken(self, what: str) -> BrokenServerError:
        return BrokenServerError(what, self.stderr().decode("utf-8", "backslashreplace"))
