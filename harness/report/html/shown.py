"""Decides what of a large run its page shows in full, so that the page stays small enough for a browser.

A page always has every cell, and every verdict as a count. It has the details of at most DETAILED tests and
the hooks of at most WHOLE cells: first those that ended unexpectedly, then other tests that did not pass,
then passes in the order of the run. Other tests are grouped by their reason; results.json has everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.results.model import CellResult, Results, TestResult
from harness.results.verdict import Verdict

DETAILED = 1000  # tests in full, of about 1.5 kB each
WHOLE = 60  # cells with their hooks, of about 20 kB each
CHIPS = 30  # links to cells in one group


@dataclass(frozen=True)
class Group:
    """Tests of a cell that ended in one verdict for one reason, and are not shown in full."""

    verdict: Verdict
    reason: str
    names: tuple[str, ...]


class Shown:
    """The tests and hooks that one page shows in full."""

    def __init__(self, results: Results) -> None:
        ranked = sorted(
            (
                (_rank(test), number, cell.id, test.name)
                for number, (cell, test) in enumerate(_tests(results))
            ),
        )
        self._tests = {(cell, name) for _, _, cell, name in ranked[:DETAILED]}
        cells = sorted(results.cells, key=lambda cell: cell.verdict.expected)
        self._whole = {cell.id for cell in cells[:WHOLE]}

    def tests(self, cell: CellResult, tests: Iterable[TestResult]) -> list[TestResult]:
        """Return those of a cell's tests that are shown in full."""
        return [test for test in tests if (cell.id, test.name) in self._tests]

    def groups(self, cell: CellResult, tests: Iterable[TestResult]) -> list[Group]:
        """Return the others."""
        found: dict[tuple[Verdict, str], list[str]] = {}
        for test in tests:
            if (cell.id, test.name) not in self._tests:
                found.setdefault((test.verdict, test.reason), []).append(test.name)
        return [Group(verdict, reason, tuple(names)) for (verdict, reason), names in found.items()]

    def whole(self, cell: CellResult) -> bool:
        """Whether a cell's panel has its times, hooks and packages."""
        return cell.id in self._whole


def _tests(results: Results) -> Iterable[tuple[CellResult, TestResult]]:
    return ((cell, test) for cell in results.cells for test in cell.tests)


def _rank(test: TestResult) -> int:
    """Order tests by how much a reader wants their details; less is more."""
    if not test.verdict.expected:
        return -1 - test.verdict.badness
    return 1 if test.verdict is Verdict.PASS else 0
