"""Runs the rule fuzzer: `python -m tests.campaigns.law.rules --pairs 1000000`; `make law-rules` does it.

Ends with 1 if the engine and the naive answers differ. The log has a line for each difference, and one for
the summary.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests import ROOT
from tests.campaigns.law.rules import evaluation, filters, mutations
from tests.campaigns.law.rules.bounds import limit_memory
from tests.campaigns.law.rules.cases import Difference

ROUNDS = {"batch": evaluation.batch, "universe": filters.universe, "files": mutations.files}
# Of each kind in one round: pairs of expression and event are what is counted, the others cost as much again.
TIMES = {"batch": 2, "universe": 2, "files": 3}
PAIRS = ("matches", "no matches")
KEPT = 200  # differences; beyond it the run ends


def campaign(seed: str, pairs: int) -> tuple[list[Difference], Counter[str]]:
    """Run rounds until so many pairs were compared; return what differs and what was counted."""
    found: list[Difference] = []
    counts: Counter[str] = Counter()
    number = 0
    while sum(counts[name] for name in PAIRS) < pairs and len(found) < KEPT:
        for name, times in TIMES.items():
            for at in range(times):
                found += _round(name, f"{seed}:{name}:{number * times + at}", counts)
        number += 1
    return found, counts


def _round(name: str, seed: str, counts: Counter[str]) -> list[Difference]:
    """Return what one round found; a round that cannot be finished is a crash, with its seed."""
    try:
        return list(ROUNDS[name](seed, counts))
    except Exception as error:  # noqa: BLE001 - whatever the engine raises is what is looked for
        return [Difference("crash", "", None, f"{type(error).__name__}: {error}", seed=seed)]


def summary(found: Sequence[Difference], counts: Counter[str], seconds: float) -> dict[str, object]:
    """Return the result of a run as plain data."""
    compared = sum(counts[name] for name in PAIRS)
    kinds = Counter(each.kind for each in found)
    return {
        "pairs": compared,
        "cpu_seconds": round(seconds, 1),
        "pairs_per_second": round(compared / max(seconds, 0.001)),
        "counts": dict(counts.most_common()),
        "kinds": [{"kind": kind, "count": count} for kind, count in kinds.most_common()],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with command-line arguments; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.law.rules", description=__doc__)
    parser.add_argument(
        "--pairs", type=int, default=1_000_000, help="pairs of expression and event to compare"
    )
    parser.add_argument("--seed", default=time.strftime("%Y%m%d"), help="default: the day")
    parser.add_argument("--log", type=Path, help="JSON lines (default: below build/law)")
    options = parser.parse_args(arguments)
    limit_memory()
    began = time.process_time()
    found, counts = campaign(options.seed, options.pairs)
    result = {"seed": options.seed, "summary": summary(found, counts, time.process_time() - began)}
    text = "".join(f"{json.dumps(entry)}\n" for entry in (*map(asdict, found), result))
    log = options.log or ROOT / "build" / "law" / f"rules-{options.seed}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
    sys.stdout.write(f"{text}log: {log}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
