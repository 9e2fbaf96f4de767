"""Groups the unexpected verdicts of a run into findings, so that one cause is reported once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.report.shared import words
from harness.report.shared.verdicts import own_verdict
from harness.results.model import CellResult, Results
from harness.results.verdict import Verdict

TESTS_NAMED = 2
_VARYING = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(frozen=True)
class Finding:
    """An unexpected verdict with its cause, in one or more cells and for one or more tests."""

    verdict: Verdict
    reason: str
    tests: tuple[str, ...]
    cells: tuple[CellResult, ...]


def findings(results: Results) -> list[Finding]:
    """Return all unexpected verdicts, worst first and then the most widespread first.

    One test with one reason in many cells is one finding, and so are many tests with the same reason in the
    same cells, because a cause that ends a cell ends all of its tests.
    """
    groups: dict[tuple[Verdict, str, str], list[tuple[str, CellResult]]] = {}
    for verdict, name, reason, cell in _unexpected(results):
        groups.setdefault((verdict, name, alike(reason)), []).append((reason, cell))
    found: dict[tuple[Verdict, str, tuple[str, ...]], Finding] = {}
    for (verdict, name, key_reason), entries in groups.items():
        cells = tuple(cell for _, cell in entries)
        key = (verdict, key_reason, tuple(cell.id for cell in cells))
        known = found.get(key, Finding(verdict, entries[0][0], (), cells))
        found[key] = replace(known, tests=(*known.tests, *([name] if name else [])))
    return sorted(found.values(), key=lambda finding: (-finding.verdict.badness, -len(finding.cells)))


def _unexpected(results: Results) -> Iterator[tuple[Verdict, str, str, CellResult]]:
    for cell in results.cells:
        own = own_verdict(cell)
        if not own.expected:
            yield own, "", cell.reason, cell
        for test in cell.tests:
            if not test.verdict.expected:
                yield test.verdict, test.name, test.reason, cell


def alike(reason: str) -> str:
    """Return what reasons have in common that differ only in numbers."""
    return _VARYING.sub("#", reason[:1000])


def name_of(finding: Finding) -> str:
    """Return the tests of a finding in a few words."""
    if len(finding.tests) > TESTS_NAMED:
        return words.plural(len(finding.tests), "test")
    return ", ".join(finding.tests) or "the cell itself"
