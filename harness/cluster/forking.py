"""Starts programs of the harness fast: a process that has imported everything forks one for each request.

A new Python process needs half a second of CPU time to import the harness, a fork some milliseconds. The
worker sends each command line over a socket, together with the standard streams and a pipe as descriptors.
The forked process writes its number to the pipe, and the forking one its exit code. A worker that is killed
closes the socket, which ends the forking process.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from harness.errors import InfrastructureError
from harness.text import one_line

_MAX_REQUEST = 1 << 16  # bytes; a command line has some paths
_NUMBER = 4  # bytes of a number in the pipe
_PASSED = 4  # descriptors of a request: stdin, stdout, stderr and the pipe for number and exit code


class Forker:
    """The worker's end; `module` is the program that serves, with the words `worker --children`."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - of the process, which lives as long as this
        self._channel: socket.socket | None = None

    def start(self, words: Sequence[str | Path], streams: Sequence[int]) -> tuple[int, BinaryIO]:
        """Start `harness WORDS` with three standard streams; return its process id and the pipe of its end.

        `received` returns the exit code from that pipe, negative for a signal. Raises InfrastructureError.
        """
        report, theirs = pipe()
        with contextlib.ExitStack() as unused:
            unused.enter_context(report)
            try:
                with theirs, self._lock:
                    request = json.dumps([*map(str, words)]).encode()
                    socket.send_fds(self._ready(), [request], [*streams, theirs.fileno()])
                number = received(report)
            except OSError as error:
                raise InfrastructureError(f"no process can be started: {self._why()}") from error
            if number is None:
                raise InfrastructureError(f"no process can be started: {self._why()}")
            unused.pop_all()
        return number, report

    def _ready(self) -> socket.socket:
        """Return the socket of a process that runs: the first one, or another if that one has ended."""
        if self._process is None or self._process.poll() is not None or self._channel is None:
            if self._channel:
                self._channel.close()
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            argv = [sys.executable, "-m", self._module, "worker", "--children"]
            with theirs:
                self._process = subprocess.Popen(
                    argv,
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=self._errors,
                    start_new_session=True,  # Ctrl-C in the worker's terminal must not reach it
                )
        return self._channel

    def _why(self) -> str:
        """Return the last error message of the process that ended, or the last line of its standard error."""
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").splitlines()
        messages = [line for line in lines if line.startswith("harness: ")]
        return one_line((messages or lines or ["it ended at once"])[-1].removeprefix("harness: "))

    def close(self) -> None:
        """End the process that forks; what it started goes on."""
        with self._lock:
            if self._channel and self._process:
                self._channel.close()
                self._process.wait()
            self._errors.close()


def pipe() -> tuple[BinaryIO, BinaryIO]:
    """Return the ends of a new pipe, to read and to write, without buffers."""
    read, write = os.pipe()
    return open(read, "rb", buffering=0), open(write, "wb", buffering=0)  # noqa: PTH123 - descriptors


def received(report: BinaryIO) -> int | None:
    """Wait for the next number from the pipe of a process; None if its end is not known."""
    number = report.read(_NUMBER)
    return int.from_bytes(number, sys.byteorder, signed=True) if number else None


def serve(descriptor: int) -> list[str] | None:
    """Fork a process for each request from a socket; return its command line there, and None at the end.

    No thread may run yet.
    """
    with socket.socket(fileno=os.dup(descriptor)) as channel, selectors.PollSelector() as selector:
        selector.register(channel, selectors.EVENT_READ)
        while True:
            for key, _events in selector.select():
                if key.fileobj is not channel:
                    selector.unregister(key.fileobj)
                    _report(*key.data)
                    continue
                request, descriptors, _flags, _address = socket.recv_fds(channel, _MAX_REQUEST, _PASSED)
                if not request:
                    return None
                child = _fork()
                if child == 0:
                    for other in selector.get_map().values():
                        if other.data:
                            _child, ended, report = other.data
                            os.close(ended)
                            os.close(report)  # else it would hide that nothing more is reported
                    _become(descriptors)
                    return [str(word) for word in json.loads(request)]
                for one in descriptors[: -1 if child else None]:
                    os.close(one)
                if child is None:
                    continue
                ended = os.pidfd_open(child)
                selector.register(ended, selectors.EVENT_READ, (child, ended, descriptors[-1]))


def _fork() -> int | None:
    """Fork; return None if the system refuses, after writing why to the standard error."""
    try:
        return os.fork()
    except OSError as error:
        sys.stderr.write(f"harness: {error.strerror}\n")
        sys.stderr.flush()
        return None


def _become(descriptors: Sequence[int]) -> None:
    """Make a forked process independent of its parent, with its own standard streams."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the worker ignores it
    _send(descriptors[-1], os.getpid())
    for number, one in enumerate(descriptors[:-1]):
        os.dup2(one, number)
    for one in descriptors:
        os.close(one)


def _report(child: int, ended: int, pipe: int) -> None:
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):  # the worker may not wait for it any more
        _send(pipe, os.waitstatus_to_exitcode(status))
    for one in (ended, pipe):
        os.close(one)


def _send(pipe: int, number: int) -> None:
    os.write(pipe, number.to_bytes(_NUMBER, sys.byteorder, signed=True))
