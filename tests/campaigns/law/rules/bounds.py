"""Limits on what one input may cost: CPU time of a case, memory of the process.

CPU time, and not the real time of `agent.selftest.runner`: on a busy host no case ends early.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from types import FrameType

MOST_MEMORY = 3 << 30  # bytes of address space


class SlowError(Exception):
    """A case used more CPU time than it may."""


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise SlowError in the body once it used so many seconds of CPU time. For the main thread only."""

    def late(_signal: int, _frame: FrameType | None) -> None:
        raise SlowError(f"more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def limit_memory() -> None:
    """Make an allocation without bound a MemoryError of this process."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
