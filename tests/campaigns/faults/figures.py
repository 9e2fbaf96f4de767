"""Bounds of a measured rate, and the confusion matrix class x verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

CONFIDENCE = 0.95


def upper_bound(failures: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided Clopper-Pearson bound of a rate; with no failure it is nearly 3 / `trials`.

    The largest rate at which so few failures are still seen with probability 1 - `confidence`; 1.0 without
    trials.
    """
    if trials == 0 or failures >= trials:
        return 1.0
    low, high = failures / trials, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_most(failures, trials, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _at_most(failures: int, trials: int, rate: float) -> float:
    """Return the probability of at most so many failures."""
    return sum(math.comb(trials, k) * rate**k * (1 - rate) ** (trials - k) for k in range(failures + 1))


def matrix(ends: Iterable[tuple[str, str]]) -> dict[str, Counter[str]]:
    """Return class -> verdict -> count, from (class, verdict) pairs."""
    found: dict[str, Counter[str]] = {}
    for group, verdict in ends:
        found.setdefault(group, Counter())[verdict] += 1
    return found


def as_markdown(found: Mapping[str, Counter[str]], groups: Iterable[str], verdicts: Iterable[str]) -> str:
    """Return the matrix as a table in the given order of rows and columns, without empty columns."""
    present = {verdict for row in found.values() for verdict in row}
    columns = [verdict for verdict in verdicts if verdict in present]
    columns += sorted(present.difference(columns))
    lines = [f"| class | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for group in groups:
        if row := found.get(group):
            cells = " | ".join(str(row[verdict] or "") for verdict in columns)
            lines.append(f"| {group} | {cells} |")
    return "\n".join(lines) + "\n"
