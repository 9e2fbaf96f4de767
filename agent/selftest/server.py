"""Serves `agent selftest --serve`: answers requests of the protocol until Quit or the end of the input."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import BinaryIO

from agent import __version__
from agent.errors import AgentError
from agent.kernel import steps
from agent.selftest.catalogue import by_name
from agent.selftest.protocol import (
    MAX_LINE,
    Bye,
    Hello,
    Load,
    Loaded,
    Ping,
    Pong,
    ProtocolError,
    Quit,
    Refused,
    Reply,
    Request,
    Run,
    Step,
    decode_request,
    encode,
    request_id,
)
from agent.selftest.runner import Stage

Loader = Callable[[Load], Stage]
STEP_S = 1.0  # at most one step is sent in this time


class Server:
    """Holds at most one loaded variant, which `loader` loads."""

    def __init__(self, source: BinaryIO, sink: BinaryIO, loader: Loader) -> None:
        self._source = source
        self._sink = sink
        self._loader = loader
        self._stage: Stage | None = None

    def serve(self) -> None:
        """Send Hello, then answer each line with one line, until Quit or the end of the input."""
        self._send(Hello(__version__, os.getpid()))
        with closing(self):
            while line := self._source.readline(MAX_LINE + 1):
                reply = self._answer(line)
                self._send(reply)
                if isinstance(reply, Bye) or len(line) > MAX_LINE:
                    return

    def close(self) -> None:
        """Detach the loaded variant."""
        if self._stage:
            self._stage.subject.close()
            self._stage.leave()
            self._stage = None

    def _send(self, reply: Reply) -> None:
        try:
            line = encode(reply)
        except ProtocolError as error:
            line = encode(Refused(getattr(reply, "id", 0), str(error)))
        self._sink.write(line)
        self._sink.flush()

    def _answer(self, line: bytes) -> Reply:
        number = request_id(line)
        try:
            return self._do(decode_request(line))
        except ProtocolError as error:
            return Refused(number, str(error), "send one request of agent/selftest/protocol.py a line")
        except AgentError as error:
            return Refused(number, error.message, error.hint, error.detail)
        except OSError as error:
            return Refused(number, f"a system call failed: {error}")

    def _do(self, request: Request) -> Reply:
        match request:
            case Load():
                return self._load(request)
            case Run():
                return self._run(request)
            case Ping():
                return Pong(request.id, self._stage is not None)
            case Quit():
                hooks = self._stage.subject.facts()["hooks"] if self._stage else ()
                with steps.observed(self._sender_of_steps(request.id)):
                    self.close()
                return Bye(request.id, hooks)

    def _load(self, request: Load) -> Reply:
        with steps.observed(self._sender_of_steps(request.id)):
            self.close()
            started = time.monotonic()
            self._stage = self._loader(request)
        return Loaded(request.id, round(time.monotonic() - started, 3), **self._stage.subject.facts())

    def _sender_of_steps(self, number: int) -> Callable[[], object]:
        sent = time.monotonic()

        def send() -> None:
            nonlocal sent
            if time.monotonic() - sent >= STEP_S:
                sent = time.monotonic()
                with suppress(OSError):  # the harness is gone: the end of the input will end this process
                    self._send(Step(number))

        return send

    def _run(self, request: Run) -> Reply:
        if self._stage is None:
            return Refused(request.id, "no variant is loaded", 'send {"do":"load",...} first')
        scenario = by_name(request.name)
        if scenario is None:
            return Refused(
                request.id, f"unknown scenario {request.name!r}", "see agent/selftest/catalogue.py"
            )
        return self._stage._replace(deadline_s=request.deadline_s).run(scenario)._replace(id=request.id)


def serve(loader: Loader) -> None:
    """Serve on stdin and stdout. Any other output to stdout goes to stderr, to keep the stream intact."""
    with os.fdopen(os.dup(1), "wb") as sink:
        os.dup2(2, 1)
        Server(sys.stdin.buffer, sink, loader).serve()
