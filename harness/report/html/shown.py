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


@dataclass(frozen=True)
class CellTests:
    """The tests of a cell that are shown in full, groups of other failures, and how many others passed."""

    failed: tuple[TestResult, ...]
    passed: tuple[TestResult, ...]
    groups: tuple[Group, ...]
    briefly_passed: int


class Shown:
    """The tests and hooks that one page shows in full."""

    def __init__(self, results: Results) -> None:
        tests = ((cell.id, test) for cell in results.cells for test in cell.tests)
        self._tests: dict[str, set[str]] = {}  # names by cell
        for cell_id, test in sorted(tests, key=lambda entry: _rank(entry[1]))[:DETAILED]:
            self._tests.setdefault(cell_id, set()).add(test.name)
        cells = sorted(results.cells, key=lambda cell: cell.verdict.expected)
        self._whole = {cell.id for cell in cells[:WHOLE]}

    def tests(self, cell: CellResult) -> CellTests:
        """Return a cell's tests by how its panel shows them."""
        names = self._tests.get(cell.id, set())
        passed = [test for test in cell.tests if test.verdict is Verdict.PASS]
        failed = sorted(
            (test for test in cell.tests if test.verdict is not Verdict.PASS),
            key=lambda test: -test.verdict.badness,
        )
        passed_in_full = tuple(test for test in passed if test.name in names)
        return CellTests(
            tuple(test for test in failed if test.name in names),
            passed_in_full,
            _groups(test for test in failed if test.name not in names),
            len(passed) - len(passed_in_full),
        )

    def whole(self, cell: CellResult) -> bool:
        """Whether a cell's panel has its times, hooks and packages."""
        return cell.id in self._whole


def _groups(tests: Iterable[TestResult]) -> tuple[Group, ...]:
    found: dict[tuple[Verdict, str], list[str]] = {}
    for test in tests:
        found.setdefault((test.verdict, test.reason), []).append(test.name)
    return tuple(Group(verdict, reason, tuple(names)) for (verdict, reason), names in found.items())


def _rank(test: TestResult) -> int:
    """Order tests by how much a reader wants their details; less is more."""
    if not test.verdict.expected:
        return -1 - test.verdict.badness
    return 1 if test.verdict is Verdict.PASS else 0
