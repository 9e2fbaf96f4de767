"""No rule may drown the others: a token bucket a rule."""

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
    """Lets each rule have `per_second` matches on average and `burst` at once; 0 a second is no limit.

    A rule that asks for a least time between its reports has that instead.
    What is held back is counted by rule: it matched, and the ledger says so, but it went to no sink.
    """

    def __init__(
        self, per_second: float, burst: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst or max(1, round(per_second)))
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}
        self._held_back: dict[str, int] = {}  # under earlier rules

    def admit(self, rule: str, every_s: float = 0.0) -> bool:
        """Whether this match of a rule may go out, when it asks for `every_s` between two."""
        if not self._per_second and not every_s:
            return True
        now = self._clock()
        bucket = self._buckets.get(rule)
        if bucket is None:
            bucket = self._buckets[rule] = self._new_bucket(every_s, now)
        bucket.tokens = min(bucket.burst, bucket.tokens + (now - bucket.filled_at) * bucket.per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return False
        bucket.tokens -= 1
        return True

    def _new_bucket(self, every_s: float, now: float) -> _Bucket:
        per_second, burst = (1 / every_s, 1.0) if every_s else (self._per_second, self._burst)
        return _Bucket(per_second, burst, burst, now)

    def forget(self) -> None:
        """Starts anew with other rules; what was held back stays counted."""
        self._held_back = self.suppressed()
        self._buckets.clear()

    def suppressed(self) -> dict[str, int]:
        """Matches held back since the start, of the rules that have any."""
        found = dict(self._held_back)
        for rule, bucket in self._buckets.items():
            if bucket.suppressed:
                found[rule] = found.get(rule, 0) + bucket.suppressed
        return found
