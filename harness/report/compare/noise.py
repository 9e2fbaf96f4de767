"""Decides which times changed by more than noise.

A run measures each time once, and hosts differ. So a pair of times, old and new, counts as changed only if
all of these hold:

- the two times are comparable: both boots cold or both warm, both tests passed, the same accelerator;
- they differ by at least `FLOOR_S` seconds of their kind;
- new / (old * host) is at least `RATIO`, or at most 1 / `RATIO`. `host` is how many times slower the new host
  was: the median of new / old over all boots, or 1 if fewer than `ENOUGH` boots are comparable. Boots measure
  the host because the agent does not run in them;
- with at least `ENOUGH` pairs of the kind, the change is `SPREADS` robust standard deviations (1.4826 times
  the median absolute deviation of the logarithms) from `host`; a factor of `CERTAIN` is always enough.

The comparison reports the host's factor beside the list, so that a run that was slow as a whole is visible.
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
    """One time of two runs, in seconds; `kind` is boot, load or test; `test` is its name or empty."""

    kind: str
    cell: str
    test: str
    old_s: float
    new_s: float

    @property
    def log_ratio(self) -> float:
        """The logarithm of new / old; both are positive, and their quotient may be too small for a float."""
        return math.log(self.new_s) - math.log(self.old_s)


def host_factor(boots: Sequence[Pair]) -> float:
    """Return how many times slower the new host was, measured by its boots; 1 if there are too few."""
    if len(boots) < ENOUGH:
        return 1.0
    return math.exp(statistics.median(pair.log_ratio for pair in boots))


def moved(pairs: Iterable[Pair], host: float) -> list[Pair]:
    """Return the `pairs`, all of one kind, that changed by more than noise; the largest change first."""
    listed = list(pairs)
    scatter = SPREADS * _spread([pair.log_ratio for pair in listed])
    limit = min(max(math.log(RATIO), scatter), math.log(CERTAIN))
    changed = [
        pair
        for pair in listed
        if abs(pair.log_ratio - math.log(host)) >= limit
        and abs(pair.new_s - pair.old_s) >= FLOOR_S[pair.kind]
    ]
    return sorted(changed, key=lambda pair: -abs(pair.log_ratio - math.log(host)))


def _spread(logs: Sequence[float]) -> float:
    """Return the robust standard deviation of `logs`; 0 if there are too few."""
    if len(logs) < ENOUGH:
        return 0.0
    middle = statistics.median(logs)
    return _MAD_TO_SIGMA * statistics.median(abs(log - middle) for log in logs)
