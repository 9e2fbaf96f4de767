"""Formats the results of `agent selftest` for one screen, whatever the number of scenarios."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from agent.selftest.catalogue import by_name
from agent.selftest.protocol import VERDICTS, Ran

WIDTH = 79  # columns
MOST_ROWS = 14  # if there are more scenarios, those that pass are only counted
COUNTS = ("generated", "delivered", "matched", "approver_rejected", "discarded")
COLUMN = 11


def progress(ran: Ran) -> str:
    """Return the line of one scenario."""
    return cut(f"{ran.verdict:<5} {ran.name:<24} {ran.duration_s:6.2f} s  {_description(ran)}")


def report(results: Sequence[Ran], loaded: Mapping[str, Any]) -> str:
    """Return the summary: coverage, verdicts, the ledger and totals."""
    lines = [*_head(loaded), "", *_verdicts(results), "", *_ledger(results), "", _totals(results)]
    return "\n".join(cut(line) for line in lines) + "\n"


def cut(line: str) -> str:
    """Return the line, cut to the width of the screen with a visible mark."""
    line = line.rstrip()
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..."


def _description(ran: Ran) -> str:
    scenario = by_name(ran.name)
    if ran.verdict == "FAIL":
        return ""  # the full reason follows below
    return ran.reason or (scenario.proves if scenario else "")


def _head(loaded: Mapping[str, Any]) -> Iterator[str]:
    """Yield the event types, grouped by coverage and types of programs."""
    groups: dict[str, list[str]] = {}
    for kind, coverage in loaded["coverage"].items():
        hooks = (hook for hook in loaded["hooks"] if hook["event"].partition(".")[0] == kind)
        programs = sorted({hook["type"] for hook in hooks if hook["state"] == "attached"})
        groups.setdefault(" ".join((coverage, *programs)), []).append(kind)
    for group, kinds in groups.items():
        yield from _wrapped(f"{group}: ", ", ".join(kinds))


def _verdicts(results: Sequence[Ran]) -> Iterator[str]:
    if len(results) > MOST_ROWS:
        yield from _families(results)
    for ran in results:
        if len(results) <= MOST_ROWS or ran.verdict != "PASS":
            yield progress(ran)
        if ran.verdict == "FAIL":
            yield from _wrapped("      ", ran.reason)
            yield from _evidence(ran)


def _evidence(ran: Ran) -> Iterator[str]:
    """Yield rule, lines of the script, hooks and ledger of the first failure about a rule."""
    failed: list[Mapping[str, Any]] = [
        entry.get("evidence", {}) for entry in ran.assertions if not entry["ok"]
    ]
    first = next((evidence for evidence in failed if "rule" in evidence), failed[0] if failed else {})
    for name in ("rule", "line", "hook", "ledger"):
        value = first.get(name) or ()
        if isinstance(value, Mapping):
            value = [f"{key}: {entry}" for key, entry in value.items()]
        for text in [value] if isinstance(value, str) else value:
            yield f"      {name:<7} {text}"


def _wrapped(head: str, text: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), max_lines=3)


def _families(results: Iterable[Ran]) -> Iterator[str]:
    families: dict[str, list[float]] = {}
    for ran in results:
        if ran.verdict == "PASS":
            families.setdefault(ran.name.partition(".")[0], []).append(ran.duration_s)
    for family, seconds in families.items():
        yield f"PASS  {family:<24} {sum(seconds):6.2f} s  {len(seconds)} scenarios"


def _ledger(results: Iterable[Ran]) -> Iterator[str]:
    yield f"{'events':<10}" + "".join(f"{_title(name):>{COLUMN}}" for name in (*COUNTS, "lost"))
    total: dict[str, Counter[str]] = {}
    for ran in results:
        for kind, row in ran.ledger.items():
            sums = total.setdefault(kind, Counter())
            sums.update({name: row[name] for name in COUNTS})
            sums["lost"] += sum(row["lost"].values())
    for kind, sums in total.items():
        yield f"{kind:<10}" + "".join(f"{sums[name]:>{COLUMN},}" for name in (*COUNTS, "lost"))


def _title(name: str) -> str:
    return name.removeprefix("approver_")


def _totals(results: Sequence[Ran]) -> str:
    counts = Counter(ran.verdict for ran in results)
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{len(results)} scenarios: {verdicts}, in {sum(ran.duration_s for ran in results):.1f} s"
