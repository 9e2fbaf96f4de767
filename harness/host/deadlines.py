"""Computes deadlines: longer for a slow guest or a busy host, and never beyond the deadline of the run.

The deadlines in the code are for an emulated guest that has a CPU of its own. A slower guest, or one that
shares its CPU with others, gets more time, so that a busy host does not look like a fault of the agent.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import IncompleteError

ORDINARY = 30.0  # slowness of the emulated CPU that the deadlines were chosen for; 1 is real hardware
MOST = 8.0  # factor by which a deadline grows at most; a host that needs more is broken


class OutOfTimeError(IncompleteError):
    """The run's own deadline has passed."""


def host_load() -> float:
    """Return the number of runnable programs per CPU of this host."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


@dataclass
class Pace:
    """The deadline of the run; `ends_at` is on the monotonic clock, which all processes of a host share."""

    ends_at: float | None = None
    limit_s: float = 0.0  # the deadline that the user asked for, to print it
    slowness: float = ORDINARY
    load: Callable[[], float] = field(default=host_load)

    def left(self) -> float:
        """Return the seconds until the deadline of the run; infinite without a deadline."""
        return math.inf if self.ends_at is None else self.ends_at - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTimeError if the deadline of the run has passed."""
        if self.left() <= 0:
            raise OutOfTimeError(self.why)

    @property
    def why(self) -> str:
        """The reason to record for everything that the deadline prevented."""
        return f"the run's deadline of {self.limit_s:g} s has passed"

    def stretch(self) -> float:
        """Return the factor for deadlines of the code, at least 1."""
        return min(MOST, max(1.0, self.slowness / ORDINARY) * max(1.0, self.load()))

    def within(self, seconds: float) -> float:
        """Return the deadline in seconds for an operation that takes at most `seconds` in an ordinary guest.

        Raises OutOfTimeError if the deadline of the run has passed.
        """
        self.check()
        return min(seconds * self.stretch(), self.left())
