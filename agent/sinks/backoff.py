"""Computes the delays between attempts to reach a server."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Delays of attempts: doubling from `first_s` to `longest_s`, each shortened at random by up to half."""

    first_s: float = 1.0
    longest_s: float = 60.0
    random: Callable[[], float] = random.random
    failures: int = 0

    def delay_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        delay = min(self.longest_s, self.first_s * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return delay * (1 - self.random() / 2)

    def reset(self) -> None:
        """Start again with `first_s` after a success."""
        self.failures = 0
