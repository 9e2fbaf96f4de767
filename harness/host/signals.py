"""Ends a run on SIGINT, SIGTERM, SIGHUP or at its deadline in such a way that it still writes results."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from harness.host import deadlines

REASONS = {
    signal.SIGINT: "the run was interrupted",
    signal.SIGTERM: "the run was ended by SIGTERM",
    signal.SIGHUP: "the run was ended by SIGHUP",
}


@contextlib.contextmanager
def ending(because: Callable[[str], None], left_s: float, why: str) -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, SIGTERM, SIGHUP and after `left_s` seconds; call `because` first.

    An infinite `left_s` means no deadline; `why` is the reason to report at the deadline. SIGHUP stays
    ignored if it was ignored before, as under nohup.
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
        signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s + deadlines.GRACE_S))
    try:
        yield
    finally:
        if math.isfinite(left_s):
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """Ignore signals while results are written, so that a second Ctrl-C does not lose them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (*REASONS, signal.SIGALRM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Deliver these signals to this thread only after the block, and never to threads started in it.

    The kernel gives a process's signal to any thread that does not block it. A signal that another thread
    receives does not wake the main thread: two signals in a row were lost in this way.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*REASONS, signal.SIGALRM))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
