"""Answers requests to a running agent on a Unix socket.

A connection sends one line, a word and optionally a JSON object, and receives one line of JSON. Only root and
the agent's own user may connect. The event loop itself answers, between two batches of events, so that an
answer is consistent without locks.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.errors import AgentError

Reply = dict[str, Any]
Arguments = Mapping[str, Any]
Handlers = Mapping[
    str, Callable[[Arguments], Reply]
]  # with the arguments of the request, and the user as `uid`

DEFAULT_PATH = Path("/run/fim-agent/control.sock")
ANSWER_S = 30.0  # a reload waits for earlier events
_CLIENT_S = 5.0
_LINE_BYTES = 16 << 10
_PEER = struct.Struct("3i")


class _Request:
    """A request and, later, its answer."""

    __slots__ = ("answered", "arguments", "reply", "word")

    def __init__(self, word: str, arguments: Arguments) -> None:
        self.word = word
        self.arguments = arguments
        self.reply: Reply = {}
        self.answered = threading.Event()


class Mailbox:
    """Passes requests from any thread to the event loop, and the answers back."""

    def __init__(self) -> None:
        self._requests: deque[_Request] = deque()
        self._closed = False

    def ask(self, word: str, arguments: Arguments | None = None, timeout_s: float = ANSWER_S) -> Reply:
        """Return the event loop's answer, or one with an `error` if there is none in time."""
        request = _Request(word, arguments or {})
        self._requests.append(request)
        if self._closed:
            self.answer({})
        if not request.answered.wait(timeout_s):
            return {"error": f"the agent did not answer within {timeout_s:g} s; it is busy"}
        return request.reply

    def answer(self, handlers: Handlers) -> None:
        """Answer all waiting requests. The event loop calls this often."""
        while self._requests:
            request = self._requests.popleft()
            handler = _refuse if self._closed else handlers.get(request.word)
            unknown = {"error": f"unknown request {request.word!r}; known: {', '.join(handlers)}"}
            request.reply = handler(request.arguments) if handler else unknown
            request.answered.set()

    def close(self) -> None:
        """Refuse all further requests, because the event loop has ended."""
        self._closed = True
        self.answer({})


def _refuse(_: Arguments) -> Reply:
    return {"error": "the agent is stopping"}


class ControlServer:
    """Listens at `path` in a thread of its own. Raises AgentError if another agent listens there."""

    def __init__(self, path: Path, mailbox: Mailbox) -> None:
        self._path = path
        self._mailbox = mailbox
        self._socket = _listen(path)
        self._thread = threading.Thread(target=self._serve, name="control", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):  # wakes the thread; on some kernels with an error
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.settimeout(_CLIENT_S)
                if _is_trusted(client):
                    self._answer(client)

    def _answer(self, client: socket.socket) -> None:
        with client.makefile("rb") as lines:
            line = lines.readline(_LINE_BYTES).decode("ascii", "replace")
        word, _, rest = line.strip().partition(" ")
        try:
            arguments = {**json.loads(rest or "{}"), "uid": _user(client)}
            reply = self._mailbox.ask(word, arguments)
        except (ValueError, TypeError, RecursionError):
            reply = {"error": "the request is not one word and a JSON object"}
        client.sendall(json.dumps(reply).encode() + b"\n")


def request(path: Path, word: str, arguments: Arguments | None = None) -> Reply:
    """Send a request to the agent at `path`. Raises AgentError without an agent and for an error."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_S + _CLIENT_S)
        try:
            client.connect(str(path))
            more = f" {json.dumps(dict(arguments))}" if arguments else ""
            client.sendall(f"{word}{more}\n".encode())
            with client.makefile("rb") as answer:
                reply: Reply = json.loads(answer.readline())
        except (OSError, ValueError) as error:
            raise AgentError(
                f"no answer from {path}: {error}", hint="start the agent, or run this command as its user"
            ) from error
    if "error" in reply:
        raise AgentError(
            str(reply["error"]), hint=str(reply.get("hint", "")), detail=str(reply.get("detail", ""))
        )
    return reply


def _listen(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if _is_alive(path):
        raise AgentError(
            f"another agent listens at {path}", hint="stop it, or choose another socket with --control"
        )
    path.unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    try:
        mask = os.umask(0o177)  # the socket never has a wider mode, not even for a moment
        try:
            server.bind(str(path))
        finally:
            os.umask(mask)
        server.listen(8)
    except OSError as error:
        server.close()
        raise AgentError(f"cannot listen at {path}: {error.strerror}") from error
    return server


def _is_alive(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _is_trusted(client: socket.socket) -> bool:
    """Whether the client is root or our user. The socket's mode ensures it too, unless it was changed."""
    return _user(client) in {0, os.geteuid()}


def _user(client: socket.socket) -> int:
    _, uid, _ = _PEER.unpack(client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(uid)
