"""The section "Tests" (templates/by_test.html.j2): what each test proves, its events, and where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.report.shared import hooks
from harness.report.shared.verdicts import counts
from harness.results.model import CellResult, Results, Scenario, TestResult
from harness.results.verdict import Verdict

Scenarios = Mapping[str, Scenario]


@dataclass(frozen=True)
class Outcome:
    """A test in one cell."""

    cell: CellResult
    test: TestResult


@dataclass(frozen=True)
class Trouble:
    """Cells in which a test ended in the same verdict for the same reason."""

    verdict: Verdict
    reason: str
    cells: tuple[CellResult, ...]


@dataclass(frozen=True)
class TestRow:
    """One test over all cells that planned it; `proves` is empty for a test of a suite."""

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
        groups: dict[tuple[Verdict, str], list[CellResult]] = {}
        for outcome in self.outcomes:
            if outcome.test.verdict is not Verdict.PASS:
                groups.setdefault((outcome.test.verdict, outcome.test.reason), []).append(outcome.cell)
        troubles = [Trouble(verdict, reason, tuple(cells)) for (verdict, reason), cells in groups.items()]
        return sorted(troubles, key=lambda trouble: -trouble.verdict.badness)


def rows(results: Results) -> list[TestRow]:
    """Return one row for each test name: unexpected verdicts first, then in the order of the results."""
    outcomes: dict[str, list[Outcome]] = {}
    for cell in results.cells:
        for test in cell.tests:
            outcomes.setdefault(test.name, []).append(Outcome(cell, test))
    listed = [
        TestRow(name, results.scenarios[name].proves if name in results.scenarios else "", tuple(found))
        for name, found in outcomes.items()
    ]
    return sorted(listed, key=lambda row: -row.worst.badness if not row.worst.expected else 0)


def worst_first(tests: Iterable[TestResult]) -> list[TestResult]:
    """Return all tests that did not pass, worst first."""
    failed = [test for test in tests if test.verdict is not Verdict.PASS]
    return sorted(failed, key=lambda test: -test.verdict.badness)


def events_of_test(test: TestResult, scenarios: Scenarios) -> list[str]:
    """Return the event types in a test's ledger and those it needs: a test that did not run has no ledger."""
    needs = scenarios[test.name].needs if test.name in scenarios else ()
    needed = [need.removeprefix("event:") for need in needs if need.startswith("event:")]
    return list(dict.fromkeys([*test.ledger, *needed]))


def events_by_test(results: Results) -> dict[str, list[str]]:
    """Return the event types of each test, by its name, in any cell."""
    found: dict[str, dict[str, None]] = {}
    for cell in results.cells:
        for test in cell.tests:
            found.setdefault(test.name, {}).update(dict.fromkeys(events_of_test(test, results.scenarios)))
    return {name: list(events) for name, events in found.items()}


def events_by_cell(results: Results) -> dict[str, list[str]]:
    """Return the event types of each cell's hooks and tests, by its id."""
    return {
        cell.id: list(
            dict.fromkeys(
                [
                    *hooks.events(cell),
                    *(event for test in cell.tests for event in events_of_test(test, results.scenarios)),
                ]
            )
        )
        for cell in results.cells
    }
