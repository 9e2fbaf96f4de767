"""Work in a few threads that can be ended: then its programs are killed and its waits are cut short.

Python cannot interrupt a thread. What takes long in the threads of the harness are other programs, and waits
for a lock or before another attempt. `child` and `pause` end those with an EndedError. Outside of such
threads they do nothing special, so that code works in any thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, ParamSpec, TypeVar

from harness.host.signals import held_back

P = ParamSpec("P")
T = TypeVar("T")


class EndedError(BaseException):
    """The work of this thread is no longer wanted. No handler of ordinary errors may stop it."""


class Work:
    """At most `threads` threads that take calls in the order in which they were submitted."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "work", initializer=_current.set, initargs=(self,))
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._running: set[subprocess.Popen[Any]] = set()

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Return the result of `call` once a thread has run it. After `end` it is cancelled."""
        with held_back():  # a signal to a thread would not wake the main thread
            return self._pool.submit(call, *args, **kwargs)

    def end(self) -> None:
        """Kill the programs, drop the calls that no thread has taken yet, and wait for the threads."""
        with self._lock:
            self._ended.set()
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        self._pool.shutdown(cancel_futures=True)

    def pause(self, seconds: float) -> None:
        """Sleep. Raises EndedError as soon as the work has ended."""
        if self._ended.wait(seconds):
            raise EndedError

    @contextlib.contextmanager
    def child(self, argv: Sequence[str], settings: dict[str, Any]) -> Iterator[subprocess.Popen[Any]]:
        """See the function of this name."""
        with self._lock:
            self.pause(0)
            process = subprocess.Popen(argv, **{"process_group": 0, **settings})
            self._running.add(process)
        try:
            with _killed_on_error(process):
                yield process
        finally:
            with self._lock:
                self._running.discard(process)
            self.pause(0)


@contextlib.contextmanager
def ended(work: Work) -> Iterator[Work]:
    """End some work with the block."""
    try:
        yield work
    finally:
        work.end()


_current: ContextVar[Work | None] = ContextVar("work", default=None)


@contextlib.contextmanager
def child(argv: Sequence[str], **settings: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a program as `subprocess.Popen` does, and wait for it; an error in the block kills it.

    In a thread of a `Work` the program leads a process group, all of which is killed when the work ends. Then
    this raises EndedError, whatever the block did. Raises OSError if the program cannot be started.
    """
    work = _current.get()
    if work:
        with work.child(argv, settings) as process:
            yield process
    else:
        with _killed_on_error(subprocess.Popen(argv, **settings)) as process:
            yield process


def pause(seconds: float) -> None:
    """Sleep. Raises EndedError in a thread whose work has ended."""
    work = _current.get()
    (work.pause if work else time.sleep)(seconds)


@contextlib.contextmanager
def _killed_on_error(process: subprocess.Popen[Any]) -> Iterator[subprocess.Popen[Any]]:
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
