"""The view by test: what each proves, and on which kernels it fails."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.selftest import catalogue
from harness.report.page.matrix import counts
from harness.results.model import CellResult, Results, TestResult
from harness.results.verdict import Verdict


@dataclass(frozen=True)
class Outcome:
    """A test in one cell."""

    cell: CellResult
    test: TestResult


@dataclass(frozen=True)
class Trouble:
    """Cells in which a test ended alike: the same verdict for the same reason."""

    verdict: Verdict
    reason: str
    cells: tuple[CellResult, ...]


@dataclass(frozen=True)
class TestRow:
    """One test over all cells that planned it."""

    __test__ = False

    name: str
    proves: str
    outcomes: tuple[Outcome, ...]

    @property
    def worst(self) -> Verdict:
        """The worst verdict of all cells."""
        return max((outcome.test.verdict for outcome in self.outcomes), key=lambda verdict: verdict.badness)

    @property
    def counts(self) -> list[tuple[Verdict, int]]:
        """How many cells ended in each verdict."""
        return counts(outcome.test.verdict for outcome in self.outcomes)

    @property
    def troubles(self) -> list[Trouble]:
        """Everything but PASS, worst first."""
        return _grouped(outcome for outcome in self.outcomes if outcome.test.verdict is not Verdict.PASS)


def rows(results: Results) -> list[TestRow]:
    """One row a test name: what failed somewhere first, then in the order of the results."""
    found: dict[str, list[Outcome]] = {}
    for cell in results.cells:
        for test in cell.tests:
            found.setdefault(test.name, []).append(Outcome(cell, test))
    made = [TestRow(name, proves(name), tuple(outcomes)) for name, outcomes in found.items()]
    return sorted(made, key=lambda row: -row.worst.badness if not row.worst.expected else 0)


def worst_first(tests: Iterable[TestResult]) -> list[TestResult]:
    """All but the passes, in the order in which a reader wants them."""
    told = [test for test in tests if test.verdict is not Verdict.PASS]
    return sorted(told, key=lambda test: -test.verdict.badness)


def proves(name: str) -> str:
    """What the catalogue says that a test proves; empty for a test that it does not know."""
    scenario = catalogue.by_name(name)
    return scenario.proves if scenario else ""


def needs(name: str) -> list[str]:
    """The event types that the catalogue says a test needs."""
    scenario = catalogue.by_name(name)
    facts = scenario.needs if scenario else ()
    return [fact.removeprefix("event:") for fact in facts if fact.startswith("event:")]


def _grouped(outcomes: Iterable[Outcome]) -> list[Trouble]:
    groups: dict[tuple[Verdict, str], list[CellResult]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.test.verdict, outcome.test.reason), []).append(outcome.cell)
    troubles = [Trouble(verdict, reason, tuple(cells)) for (verdict, reason), cells in groups.items()]
    return sorted(troubles, key=lambda trouble: -trouble.verdict.badness)
