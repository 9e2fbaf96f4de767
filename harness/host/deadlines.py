"""How long to wait: deadlines that stretch with a guest's slowness and the host's load, and end with the run.

The deadlines in the code are those of an emulated guest that has a CPU for itself. A guest that is slower, or
that shares its CPU with others, gets more time, for what it does not get is no evidence against the agent.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import IncompleteError

ORDINARY = 30.0  # times slower than an ordinary machine: an emulated CPU for which the deadlines were chosen
MOST = 8.0  # times that a deadline is stretched; beyond that a host is broken, and waiting helps nobody


class OutOfTimeError(IncompleteError):
    """The run's own deadline has passed."""


def host_load() -> float:
    """How many programs wait for each CPU of this host; 1.0 where each has one."""
    return os.getloadavg()[0] / len(os.sched_getaffinity(0))


@dataclass
class Pace:
    """The time that is left; `ends_at` is on the monotonic clock, which all processes of a host share."""

    ends_at: float | None = None
    limit_s: float = 0.0  # what the command line asked for, to say it
    slowness: float = ORDINARY
    load: Callable[[], float] = field(default=host_load)

    def left(self) -> float:
        """Seconds until the run's deadline; infinite where there is none."""
        return math.inf if self.ends_at is None else self.ends_at - time.monotonic()

    def check(self) -> None:
        """Raise OutOfTimeError when the run's deadline has passed."""
        if self.left() <= 0:
            raise OutOfTimeError(self.why)

    @property
    def why(self) -> str:
        """What is said of everything that the deadline kept from ending."""
        return f"the run's deadline of {self.limit_s:g} s has passed"

    def stretch(self) -> float:
        """By how much deadlines are longer than in the code: at least 1."""
        return min(MOST, max(1.0, self.slowness / ORDINARY) * max(1.0, self.load()))

    def within(self, seconds: float) -> float:
        """A deadline for something that takes at most `seconds` in the ordinary case.

        Raises OutOfTimeError when the run's own has passed.
        """
        self.check()
        return min(seconds * self.stretch(), self.left())
