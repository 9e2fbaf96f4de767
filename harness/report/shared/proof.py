"""Extracts the evidence of a test: failed assertions with their details, and the names of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.shared import words
from harness.results.model import Assertion, TestResult

FAILED_LIMIT = 60  # assertions of one test
LINES_LIMIT = 40  # per piece of evidence
_ABOUT = ("rule", "line", "hook", "ledger")
_ORDER = ("script", "rules", "hooks")  # other evidence comes first: it is rare and more specific


def failed(test: TestResult) -> list[Assertion]:
    """Return the failed assertions, at most `FAILED_LIMIT`."""
    return [row for row in test.assertions if not row.ok][:FAILED_LIMIT]


def held(test: TestResult) -> list[tuple[str, int]]:
    """Return the names and counts of the assertions that held; results.json has their values."""
    return list(Counter(row.name for row in test.assertions if row.ok).items())


def evidence(test: TestResult) -> list[tuple[str, str]]:
    """Return the evidence of the first failed assertion as (name, text): script, rules, hooks and others."""
    first = next(iter(failed(test)), None)
    found = (first.model_extra or {}).get("evidence") if first else None
    if not isinstance(found, Mapping):
        return []
    order = sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else -1)
    return [(str(name), "\n".join(_lines(found[name]))) for name in order if found[name]]


def about(test: TestResult) -> list[str]:
    """Return, for the first failure of one rule, that rule, its script lines, hooks and ledger, as lines."""
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
    """Return a row as one line: texts as they are, numbers with their names, without empty entries."""
    if not isinstance(value, Mapping):
        return words.value_text(value)
    shown = {name: entry for name, entry in value.items() if entry not in ("", 0)}
    return "  ".join(entry if isinstance(entry, str) else f"{name} {entry}" for name, entry in shown.items())
