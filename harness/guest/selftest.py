"""Client of the agent's self-test server in a guest; `agent.selftest.protocol` describes the messages.

The client checks replies strictly: a reply to another request, a line that is no message and an early
end of the server are errors.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from agent.selftest import protocol
from agent.selftest.protocol import Loaded, Ran
from harness.errors import ProductError, RefusedError
from harness.guest.base import Channel, Guest, TooMuchOutputError
from harness.guest.deploy import TARGET
from harness.host import deadlines

__all__ = ["SERVE", "STAND_BY", "BrokenServerError", "Loaded", "Note", "Ran", "SelftestClient", "stand_by"]

SERVE = ("env", "-C", TARGET, "python3", "-m", "agent", "selftest", "--serve")

# Importing these modules, which are not the agent's own, takes more than half of the server's start.
_MODULES = "argparse ctypes dataclasses hashlib json mmap pathlib shutil signal subprocess yaml"
_WAIT = (
    f"import os, sys, {', '.join(_MODULES.split())}; os.read(0, 1); "
    "from agent.cli import main; sys.exit(main(['selftest', '--serve']))"
)
STAND_BY = (*SERVE[:4], "-c", _WAIT)


_Reply = TypeVar("_Reply", protocol.Hello, Loaded, Ran, protocol.Pong, protocol.Bye)

Note = Callable[[str, bytes], None]
"""Receives "sent" or "received" and a line of the protocol, for a log."""


class BrokenServerError(ProductError):
    """The server ended early or broke the protocol; `detail` is the end of its stderr."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(": ".join([message, *detail.strip().splitlines()[-1:]]))
        self.detail = detail


def _ignore(_direction: str, _line: bytes) -> None:
    return


def stand_by(guest: Guest) -> Channel:
    """Start an interpreter that imports no module of the agent yet and waits for `SelftestClient.start`."""
    return guest.open_channel(STAND_BY)


class SelftestClient:
    """One connection to one server.

    Every method raises RefusedError, BrokenServerError, GuestTimeoutError, GuestLostError.
    """

    def __init__(self, channel: Channel, note: Note = _ignore) -> None:
        self._channel = channel
        self._note = note
        self._ids = itertools.count(1)
        self.hooks: tuple[Any, ...] = ()  # the server sends them when it ends

    @classmethod
    def start(
        cls, guest: Guest, deadline_s: float, note: Note = _ignore, *, waiting: Channel | None = None
    ) -> SelftestClient:
        """Start the server in the guest, or let the `waiting` interpreter start it; wait for its greeting."""
        if waiting:
            waiting.write(b"\n")
        client = cls(waiting or guest.open_channel(SERVE), note)
        greeting = client._receive(protocol.Hello, time.monotonic() + deadline_s)
        if greeting.hello != protocol.VERSION:
            raise client._broken(
                f"the self-test server uses version {greeting.hello} of the protocol, not {protocol.VERSION}"
            )
        return client

    def load(
        self,
        hookset: str,
        btf: str,
        transport: str,
        deadline_s: float,
        events: Sequence[str] = (),
        world: str = "",
    ) -> Loaded:
        """Load and attach one variant; with `events`, only the programs that these need.

        `deadline_s` limits the time without a step, and `deadlines.MOST` times as much the whole.
        """
        request = protocol.Load(next(self._ids), hookset, btf, transport, tuple(events), world)
        return self._ask_in_steps(request, Loaded, deadline_s)

    def test(self, name: str, deadline_s: float) -> Ran:
        """Run one scenario; the server is the more patient, the longer the deadline is."""
        ran = self._ask(protocol.Run(next(self._ids), name, deadline_s), Ran, deadline_s)
        if ran.name != name:
            raise self._broken(f"the self-test server ran {ran.name} instead of {name}")
        return ran

    def ping(self, deadline_s: float) -> bool:
        """Return whether a variant is loaded; any reply shows that the server is alive."""
        return self._ask(protocol.Ping(next(self._ids)), protocol.Pong, deadline_s).loaded

    def quit(self, deadline_s: float = deadlines.QUIT_S) -> int:
        """End the server; return its status. `deadline_s` limits each step, as in `load`."""
        self.hooks = self._ask_in_steps(protocol.Quit(next(self._ids)), protocol.Bye, deadline_s).hooks
        return self._channel.wait(deadline_s)

    def stderr(self) -> bytes:
        """Return the last bytes of the server's stderr."""
        return self._channel.stderr_tail()

    def close(self) -> None:
        """Close the channel, which ends the server; may be called again."""
        self._channel.close()

    def _ask(self, request: protocol.Request, kind: type[_Reply], deadline_s: float) -> _Reply:
        self._send(request)
        return self._receive(kind, time.monotonic() + deadline_s, request.id)

    def _ask_in_steps(self, request: protocol.Request, kind: type[_Reply], deadline_s: float) -> _Reply:
        self._send(request)
        latest = time.monotonic() + deadlines.MOST * deadline_s
        return self._receive(kind, latest, request.id, step_s=deadline_s)

    def _send(self, request: protocol.Request) -> None:
        line = protocol.encode(request)
        self._note("sent", line)
        self._channel.write(line)

    def _receive(
        self, kind: type[_Reply], deadline: float, wanted: int = 0, step_s: float = math.inf
    ) -> _Reply:
        reply = self._reply(min(deadline, time.monotonic() + step_s))
        while isinstance(reply, protocol.Step) and reply.id == wanted and step_s < math.inf:
            reply = self._reply(min(deadline, time.monotonic() + step_s))
        if isinstance(reply, protocol.Refused):
            raise RefusedError(reply.error, hint=reply.hint, detail=reply.detail)
        if not isinstance(reply, kind) or (wanted and getattr(reply, "id", None) != wanted):
            raise self._broken(f"the self-test server replied to another request: {type(reply).__name__}")
        return reply

    def _reply(self, deadline: float) -> protocol.Reply:
        try:
            line = self._channel.readline(max(0.0, deadline - time.monotonic()))
        except TooMuchOutputError as error:
            raise self._broken(error.message) from error
        if line is None:
            raise self._broken("the self-test server ended")
        self._note("received", line)
        try:
            return protocol.decode_reply(line)
        except protocol.ProtocolError as error:
            raise self._broken(f"the self-test server sent an invalid reply: {error}") from error

    def _broken(self, what: str) -> BrokenServerError:
        return BrokenServerError(what, self.stderr().decode("utf-8", "backslashreplace"))
