"""When a time has moved beyond its noise.

One run gives one time for each thing, and hosts differ. So a pair of times, old and new, has moved only when
all of these hold:

- it is comparable: boots that are both cold or both warm, tests that both passed, under one accelerator;
- it moved by at least `FLOOR_S` seconds of its kind;
- new / (old * host) is at least `RATIO`, or at most 1 / `RATIO`. `host` is how many times slower the new host
  was: the median of new / old over all boots, 1 where fewer than `ENOUGH` boots can be compared. Boots stand
  for the host because the agent has no part in them;
- it lies `SPREADS` robust standard deviations (1.4826 times the median absolute deviation, of the logarithms)
  from `host`, where there are `ENOUGH` pairs of its kind to know how they scatter; a factor of `CERTAIN`
  is always enough.

The host's own factor is told beside the list, so that a whole run that became slow is not silent.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RATIO = 1.5
FLOOR_S = {"boot": 2.0, "load": 1.0, "test": 1.0}
SPREADS = 3.0
CERTAIN = 4.0
ENOUGH = 5
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Pair:
    """One thing timed in two runs, in seconds; `kind` is boot, load or test, `test` its name or empty."""

    kind: str
    cell: str
    test: str
    old_s: float
    new_s: float

    @property
    def log_ratio(self) -> float:
        """The logarithm of new / old; both are above zero."""
        return math.log(self.new_s / self.old_s)


def host_factor(boots: Sequence[Pair]) -> float:
    """How many times slower the new host was, by its boots; 1 where there are too few to say."""
    if len(boots) < ENOUGH:
        return 1.0
    return math.exp(statistics.median(pair.log_ratio for pair in boots))


def moved(pairs: Iterable[Pair], host: float) -> list[Pair]:
    """Those of `pairs`, all of one kind, that moved beyond their noise; the largest change first."""
    listed = list(pairs)
    scatter = SPREADS * _spread([pair.log_ratio for pair in listed])
    limit = min(max(math.log(RATIO), scatter), math.log(CERTAIN))
    found = [
        pair
        for pair in listed
        if abs(pair.log_ratio - math.log(host)) >= limit
        and abs(pair.new_s - pair.old_s) >= FLOOR_S[pair.kind]
    ]
    return sorted(found, key=lambda pair: -abs(pair.log_ratio - math.log(host)))


def _spread(logs: Sequence[float]) -> float:
    """The robust standard deviation of `logs`; 0 where there are too few to know."""
    if len(logs) < ENOUGH:
        return 0.0
    middle = statistics.median(logs)
    return _MAD_TO_SIGMA * statistics.median(abs(log - middle) for log in logs)
