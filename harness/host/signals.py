"""How a run is ended from outside: Ctrl-C, SIGTERM and its own deadline all end it with results."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from types import FrameType

GRACE_S = 3.0  # after the deadline: workers end by it themselves, and know more than who interrupts them

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def ending(because: Callable[[str], None], left_s: float, why: str) -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, on SIGTERM and after `left_s` seconds; tell `because` of what first.

    An infinite `left_s` is no deadline; `why` is what is said at it.
    """
    reasons = {
        signal.SIGINT: "the run was interrupted",
        signal.SIGTERM: "the run was ended by SIGTERM",
        signal.SIGALRM: why,
    }

    def end(number: int, frame: FrameType | None) -> None:
        because(reasons[signal.Signals(number)])
        signal.default_int_handler(number, frame)

    before = {number: signal.signal(number, end) for number in reasons}
    if math.isfinite(left_s):
        signal.setitimer(signal.ITIMER_REAL, max(0.001, left_s + GRACE_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def deaf() -> Iterator[None]:
    """While the results are written nothing interrupts: who presses Ctrl-C twice still gets them."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
