"""Runs a part in a process of its own, so that the worker's event loop stays free.

The child's standard input is a pipe whose other end only the worker holds. When the worker closes it or is
killed, the child ends as by Ctrl-C.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from harness.cluster.wire import MAX_LINE
from harness.host import deadlines
from harness.text import one_line

MODULE = "harness.cli"  # that a worker runs for each part
_TAIL = 4096  # bytes of standard error


class Child:
    """A running program; `errors` receives its standard error."""

    def __init__(self, argv: Sequence[str], errors: BinaryIO) -> None:
        self._errors = errors
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in the worker's terminal must not reach it twice
        )

    def lines(self, wanted: Callable[[], bool]) -> Iterator[bytes]:
        """Yield each line of standard output; end the child as soon as it is not `wanted` any more.

        Lines that are too long are dropped.
        """
        assert self._process.stdout
        descriptor, kept, too_long = self._process.stdout.fileno(), b"", False
        while wanted():
            if not select.select([descriptor], [], [], deadlines.CHILD_LOOK_S)[0]:
                continue
            data = os.read(descriptor, 1 << 16)
            if not data:
                return
            *lines, kept = (kept + data).split(b"\n")
            for line in lines:
                if not too_long:
                    yield line
                too_long = False
            if len(kept) > MAX_LINE:
                kept, too_long = b"", True
        self.end()

    def wait(self) -> str:
        """Wait for the end; return how it ended, with the last line of its standard error."""
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        size = os.fstat(self._errors.fileno()).st_size
        tail = os.pread(self._errors.fileno(), _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace")
        lines = [line for line in tail.splitlines() if line.strip()]
        error = next((line for line in lines if line.startswith("harness: ")), lines[-1] if lines else "")
        return f"{how}: {one_line(error.removeprefix('harness: '))}" if error else how

    def end(self) -> None:
        """End the child as by Ctrl-C; kill it if it does not end in time."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(deadlines.CHILD_EXIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def interrupt_at_end_of_input() -> None:
    """In the child: interrupt this process when its worker closes the pipe or dies; later kill what hangs."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(deadlines.CHILD_EXIT_S)
        os.killpg(0, signal.SIGKILL)

    # The worker may have been started with these blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=watch, name="worker", daemon=True).start()


def command(module: str, *words: str | Path) -> list[str]:
    """Return the command line of a child."""
    return [sys.executable, "-m", module, *map(str, words)]
