"""What a test rests on: what did not hold with all there is about it, and what held by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.shared import words
from harness.results.model import Assertion, TestResult

FAILED_LIMIT = 60  # assertions of one test
LINES_LIMIT = 40  # of one piece of evidence
_ABOUT = ("rule", "line", "hook", "ledger")
_ORDER = ("script", "rules", "hooks")  # what else there is comes first: it is rare, and tells more


def failed(test: TestResult) -> list[Assertion]:
    """The assertions that did not hold."""
    return [row for row in test.assertions if not row.ok][:FAILED_LIMIT]


def held(test: TestResult) -> list[tuple[str, int]]:
    """The names of the assertions that held, each with how often it did; results.json has their values."""
    return list(Counter(row.name for row in test.assertions if row.ok).items())


def evidence(test: TestResult) -> list[tuple[str, str]]:
    """What the first failed assertion was written down with, as lines: script, rules, hooks and the like."""
    first = next(iter(failed(test)), None)
    found = (first.model_extra or {}).get("evidence") if first else None
    if not isinstance(found, Mapping):
        return []
    order = sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else -1)
    return [(str(name), "\n".join(_lines(found[name]))) for name in order if found[name]]


def about(test: TestResult) -> list[str]:
    """Of the first failure that is about one rule: that, lines of the script, hooks, and the ledger then."""
    known = [
        found for row in failed(test) if isinstance(found := (row.model_extra or {}).get("evidence"), Mapping)
    ]
    first = next((found for found in known if "rule" in found), {})
    return [f"{name}: {line}" for name in _ABOUT if name in first for line in _lines(first[name])]


def _lines(value: Any) -> Iterator[str]:
    entries = list(_entries(value))
    yield from entries[:LINES_LIMIT]
    if len(entries) > LINES_LIMIT:
        yield f"and {len(entries) - LINES_LIMIT} more"


def _entries(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from (f"{name}: {words.value_text(entry)}" for name, entry in value.items())
    elif isinstance(value, list):
        yield from (_entry(entry) for entry in value)
    else:
        yield words.value_text(value)


def _entry(value: Any) -> str:
    """A row in one line: words as they are, numbers with their names, and nothing that says nothing."""
    if not isinstance(value, Mapping):
        return words.value_text(value)
    told = {name: entry for name, entry in value.items() if entry not in ("", 0)}
    return "  ".join(entry if isinstance(entry, str) else f"{name} {entry}" for name, entry in told.items())
