"""Limits the matches of each rule by token buckets, so that no rule floods the sinks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

MAX_BUCKETS = 4096
_ALL_USERS = -1


@dataclass(slots=True)
class _Bucket:
    per_second: float
    burst: float
    tokens: float
    filled_at: float

    def fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_second)
        self.filled_at = now


class RateLimit:
    """Admits `per_second` matches of each rule and user on average, and `burst` at once; 0 is no limit.

    A user who makes a rule match all the time so hides no match of another user. While more than MAX_BUCKETS
    rules and users are limited at once, further users share a bucket of the rule. A rule with a minimum time
    between reports has that limit instead, for all users. Suppressed matches are counted by rule: the ledger
    counts them as matched, but no sink receives them.
    """

    def __init__(
        self, per_second: float, burst: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst or max(1, round(per_second)))
        self._clock = clock
        self._buckets: dict[tuple[str, int], _Bucket] = {}
        self._suppressed: dict[str, int] = {}

    def admit(self, rule: str, every_s: float = 0.0, user: int = 0) -> bool:
        """Whether to report this match of a rule; `every_s` is the rule's minimum time between reports."""
        if not self._per_second and not every_s:
            return True
        now = self._clock()
        bucket = self._bucket(rule, every_s, _ALL_USERS if every_s else user, now)
        bucket.fill(now)
        if bucket.tokens < 1:
            self._suppressed[rule] = self._suppressed.get(rule, 0) + 1
            return False
        bucket.tokens -= 1
        return True

    def forget(self) -> None:
        """Start again with new rules; the counts remain."""
        self._buckets.clear()

    def suppressed(self) -> dict[str, int]:
        """Return the matches suppressed since the start, by rule."""
        return dict(self._suppressed)

    def _bucket(self, rule: str, every_s: float, user: int, now: float) -> _Bucket:
        if bucket := self._buckets.get((rule, user)):
            return bucket
        if user != _ALL_USERS and not self._has_room(now):
            return self._bucket(rule, every_s, _ALL_USERS, now)
        per_second, burst = (1 / every_s, 1.0) if every_s else (self._per_second, self._burst)
        return self._buckets.setdefault((rule, user), _Bucket(per_second, burst, burst, now))

    def _has_room(self, now: float) -> bool:
        """Whether there is room for one more bucket; a full one is as good as none."""
        if len(self._buckets) < MAX_BUCKETS:
            return True
        for bucket in self._buckets.values():
            bucket.fill(now)
        self._buckets = {key: each for key, each in self._buckets.items() if each.tokens < each.burst}
        return len(self._buckets) < MAX_BUCKETS
