"""Runs a part in a process of its own, so that the worker's event loop stays free.

The child's standard input is a pipe whose other end only the worker holds. A byte in it lets a child that has
prepared everything boot its machine. When the worker closes it or is killed, the child ends as by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from harness.cluster import forking
from harness.cluster.forking import Forker, pipe
from harness.cluster.wire import MAX_LINE
from harness.host import deadlines
from harness.text import one_line

MODULE = "harness.cli"  # that a worker runs for each part
_TAIL = 4096  # bytes of standard error


class Child:
    """A program `harness WORDS` that runs; `errors` receives its standard error.

    Raises InfrastructureError if it cannot be started.
    """

    def __init__(self, forker: Forker, words: Sequence[str | Path], errors: BinaryIO) -> None:
        self.code: int | None = None  # how it ended, if it has and if that is known
        self._errors = errors
        stdin, self._input = pipe()
        self._output, stdout = pipe()
        with stdin, stdout, contextlib.ExitStack() as unused:
            unused.enter_context(self._input)
            unused.enter_context(self._output)
            streams = [stdin.fileno(), stdout.fileno(), errors.fileno()]
            self._pid, self._report = forker.start(words, streams)
            unused.pop_all()

    def go(self) -> None:
        """Let the child boot its machine."""
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or is not wanted any more
            self._input.write(b"\n")

    def lines(self, wanted: Callable[[], bool]) -> Iterator[bytes]:
        """Yield each line of standard output until the child has ended; end it as soon as it is not `wanted`.

        Lines that are too long are dropped.
        """
        kept, too_long = b"", False
        while wanted():
            data = self._read(deadlines.CHILD_LOOK_S)
            if data is None:
                return
            *lines, kept = (kept + data).split(b"\n")
            for line in lines:
                if not too_long:
                    yield line
                too_long = False
            if len(kept) > MAX_LINE:
                kept, too_long = b"", True
        self._end()

    def _read(self, seconds: float) -> bytes | None:
        """Return output that comes within some seconds, b"" if none came, None if the child has ended.

        Its end is what the forking process reports: a program that it left may hold its standard output open,
        and the child may close it and hang. If the forking process was killed, only the output shows the end.
        """
        open_ones = [one for one in (self._output, self._report) if not one.closed]
        ready = select.select(open_ones, [], [], seconds)[0]
        if self._output in ready:
            if data := os.read(self._output.fileno(), 1 << 16):
                return data
            self._output.close()
        elif self._report in ready:
            self._read_report()
        return None if self._report.closed and (self._output.closed or self.code is not None) else b""

    def _read_report(self) -> None:
        self.code = forking.received(self._report)
        self._report.close()

    def wait(self) -> str:
        """Wait for the end; return how it ended, with the last line of its standard error."""
        if not self._report.closed:
            self._read_report()
        for stream in (self._input, self._output):
            stream.close()
        code = self.code
        if code is None:
            how = "ended in an unknown way, because the process that had started it was killed"
        else:
            how = (
                f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            )
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        error = next((line for line in lines if line.startswith("harness: ")), lines[-1] if lines else "")
        return f"{how}: {one_line(error.removeprefix('harness: '))}" if error else how

    def _end(self) -> None:
        """End the child as by Ctrl-C; kill it if it does not end in time."""
        self._input.close()
        until = time.monotonic() + deadlines.CHILD_EXIT_S
        while not self._report.closed and (left := until - time.monotonic()) > 0:
            self._read(left)  # else the child could wait for room in a full pipe
        if not self._report.closed:
            os.killpg(self._pid, signal.SIGKILL)


class Turn:
    """The turn of one part, from its arrival to the end of its machine."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.child: Child | None = None  # None until it has started

    def begin(self, child: Child) -> None:
        """Let a child boot once it is the first."""
        self.child = child
        self._turns.let_first_go()

    def end(self) -> None:
        """Let the next child boot: the machine of this one is destroyed."""
        self._turns.remove(self)


class Turns:
    """Lets the children of a worker boot one after the other, in the order in which their parts came.

    The next one prepares its machine meanwhile, and boots as soon as the machine before it is destroyed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[Turn] = []  # the first one is no longer waiting, if it has a child

    @contextlib.contextmanager
    def turn(self) -> Iterator[Turn]:
        """Return a context from the arrival of a part to the end of its child."""
        made = Turn(self)
        with self._lock:
            self._waiting.append(made)
        try:
            yield made
        finally:
            made.end()

    def remove(self, turn: Turn) -> None:
        """Forget a turn, if it has not ended yet."""
        with self._lock, contextlib.suppress(ValueError):
            self._waiting.remove(turn)
        self.let_first_go()

    def let_first_go(self) -> None:
        """Let the child boot whose turn is the first, if it has started."""
        with self._lock:
            if self._waiting and self._waiting[0].child:
                self._waiting[0].child.go()


def turn() -> Callable[[], object]:
    """In the child: watch the pipe from the worker; return a function that waits until a machine may boot.

    Interrupts this process when its worker closes the pipe or dies, and later kills what hangs.
    """
    came = threading.Event()

    def watch() -> None:
        while os.read(0, 1):
            came.set()
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(deadlines.CHILD_EXIT_S)
        os.killpg(0, signal.SIGKILL)

    # The worker may have been started with these blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=watch, name="worker", daemon=True).start()
    return came.wait
