"""How a run is ended from outside: SIGINT, SIGTERM, SIGHUP and its own deadline all end it with results."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from types import FrameType

GRACE_S = (
    3.0  # after the deadline: workers end by themselves at the deadline, and report more than a signal can
)

REASONS = {
    signal.SIGINT: "the run was interrupted",
    signal.SIGTERM: "the run was ended by SIGTERM",
    signal.SIGHUP: "the run was ended by SIGHUP",
}


@contextlib.contextmanager
def ending(because: Callable[[str], None], left_s: float, why: str) -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, SIGTERM, SIGHUP and after `left_s` seconds; call `because` first.

    An infinite `left_s` is no deadline; `why` is the reason given at the deadline. SIGHUP stays ignored where
    it was, as under nohup.
    """
    reasons = dict(REASONS)
    if math.isfinite(left_s):
        reasons[signal.SIGALRM] = why
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        del reasons[signal.SIGHUP]

    def end(number: int, frame: FrameType | None) -> None:
        because(reasons[signal.Signals(number)])
        signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, end) for number in reasons}
    if math.isfinite(left_s):
        signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s + GRACE_S))
    try:
        yield
    finally:
        if math.isfinite(left_s):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """Ignore signals while results are written, so that a second Ctrl-C does not lose them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*REASONS, signal.SIGALRM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def left_to_main() -> Iterator[None]:
    """Threads that are started within it leave these signals to the main thread.

    The kernel gives a process's signal to any thread that does not block it. One that another thread takes
    does not wake the main thread, which then sleeps on: two signals in a row were lost that way.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*REASONS, signal.SIGALRM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
