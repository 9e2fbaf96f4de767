"""Limits the matches of each rule by a token bucket, so that no rule floods the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    per_second: float
    burst: float
    tokens: float
    filled_at: float
    suppressed: int = 0


class RateLimit:
    """Admits `per_second` matches of each rule on average and `burst` at once; 0 per second is no limit.

    A rule with a minimum time between reports has that limit instead. Suppressed matches are counted by rule:
    the ledger counts them as matched, but no sink receives them.
    """

    def __init__(
        self, per_second: float, burst: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst or max(1, round(per_second)))
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._suppressed_before: dict[str, int] = {}  # under earlier rules

    def admit(self, rule: str, every_s: float = 0.0) -> bool:
        """Whether to report this match of a rule; `every_s` is the rule's minimum time between reports."""
        if not self._per_second and not every_s:
            return True
        now = self._clock()
        bucket = self._buckets.get(rule)
        if bucket is None:
            per_second, burst = (1 / every_s, 1.0) if every_s else (self._per_second, self._burst)
            bucket = self._buckets[rule] = _Bucket(per_second, burst, burst, now)
        bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.filled_at) * bucket.per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return False
        bucket.tokens -= 1
        return True

    def forget(self) -> None:
        """Start again with new rules; the counts remain."""
        self._suppressed_before = self.suppressed()
        self._buckets.clear()

    def suppressed(self) -> dict[str, int]:
        """Return the matches suppressed since the start, by rule."""
        counts = dict(self._suppressed_before)
        for rule, bucket in self._buckets.items():
            if bucket.suppressed:
                counts[rule] = counts.get(rule, 0) + bucket.suppressed
        return counts
