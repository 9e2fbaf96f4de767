"""What a reader must look at first: everything that was not as expected, the same thing said once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from harness.report.changes import own_verdict
from harness.results import CellResult, Results
from harness.verdict import Verdict

_VARYING = re.compile(r"0x[0-9a-f]+|\d+")


@dataclass(frozen=True)
class Finding:
    """Something that went wrong in one or more cells; `tests` are the tests that it ended."""

    verdict: Verdict
    reason: str
    tests: tuple[str, ...]
    cells: tuple[CellResult, ...]


def findings(results: Results) -> list[Finding]:
    """All that is not as expected, worst first and then most widespread first.

    Failures are one finding a test; what ends many tests at once (no guest, no result) is one for them all.
    """
    groups: dict[tuple[Verdict, str, str], list[tuple[str, str, CellResult]]] = {}
    for verdict, name, reason, cell in _unexpected(results):
        owner = name if verdict.exit_code == 1 else ""
        key = (verdict, owner, _VARYING.sub("#", reason[:1000]))
        groups.setdefault(key, []).append((name, reason, cell))
    found = [_finding(verdict, entries) for (verdict, _, _), entries in groups.items()]
    return sorted(found, key=lambda finding: (-finding.verdict.badness, -len(finding.cells)))


def _unexpected(results: Results) -> Iterator[tuple[Verdict, str, str, CellResult]]:
    for cell in results.cells:
        own = own_verdict(cell)
        if not own.expected:
            yield own, "", cell.reason, cell
        for test in cell.tests:
            if not test.verdict.expected:
                yield test.verdict, test.name, test.reason, cell


def _finding(verdict: Verdict, entries: list[tuple[str, str, CellResult]]) -> Finding:
    tests = tuple(dict.fromkeys(name for name, _, _ in entries if name))
    cells = {cell.id: cell for _, _, cell in entries}
    return Finding(verdict, entries[0][1], tests, tuple(cells.values()))
