"""No rule may drown the others: a token bucket a rule."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    suppressed: int = 0


class RateLimit:
    """Lets each rule have `per_second` matches on average and `burst` at once; 0 a second is no limit.

    What is held back is counted by rule: it matched, and the ledger says so, but it went to no sink.
    """

    def __init__(
        self, per_second: float, burst: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst or max(1, round(per_second)))
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def admit(self, rule: str) -> bool:
        """Whether this match of a rule may go out."""
        if not self._per_second:
            return True
        now = self._clock()
        bucket = self._buckets.get(rule)
        if bucket is None:
            bucket = self._buckets[rule] = _Bucket(self._burst, now)
        earned = (now - bucket.filled_at) * self._per_second
        bucket.tokens = min(self._burst, bucket.tokens + earned)
        bucket.filled_at = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return False
        bucket.tokens -= 1
        return True

    def suppressed(self) -> dict[str, int]:
        """Matches held back since the start, of the rules that have any."""
        return {rule: bucket.suppressed for rule, bucket in self._buckets.items() if bucket.suppressed}
