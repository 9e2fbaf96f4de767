"""The section "Tests" (templates/by_test.html.j2): what each test proves, its events, and where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.report.shared import attention, hooks
from harness.report.shared.verdicts import counts
from harness.results.model import CellResult, Results, Scenario, TestResult
from harness.results.verdict import Verdict

Scenarios = Mapping[str, Scenario]


@dataclass(frozen=True)
class Group:
    """Cells in which a test ended in one verdict for one reason, of which a failure's numbers may differ."""

    verdict: Verdict
    reason: str
    cells: list[CellResult]


@dataclass(frozen=True)
class TestRow:
    """One test over all cells that planned it; `proves` is empty for a test of a suite."""

    __test__ = False

    name: str
    proves: str
    passes: tuple[Group, ...]  # one or none
    troubles: tuple[Group, ...]  # worst first

    @property
    def worst(self) -> Verdict:
        """The worst verdict of all cells."""
        groups = self.passes + self.troubles
        return max((group.verdict for group in groups), key=lambda verdict: verdict.badness)

    @property
    def counts(self) -> list[tuple[Verdict, int]]:
        """How many cells ended in each verdict."""
        return counts(group.verdict for group in self.passes + self.troubles for _ in group.cells)


def rows(results: Results) -> list[TestRow]:
    """Return one row for each test name: unexpected verdicts first, then in the order of the results."""
    found: dict[str, dict[tuple[Verdict, str], Group]] = {}
    for cell in results.cells:
        for test in cell.tests:
            groups = found.setdefault(test.name, {})
            key = test.verdict, _cause(test)
            if key not in groups:
                groups[key] = Group(test.verdict, test.reason, [])
            groups[key].cells.append(cell)
    listed = [
        TestRow(
            name,
            results.scenarios[name].proves if name in results.scenarios else "",
            tuple(group for group in groups.values() if group.verdict is Verdict.PASS),
            _worst_first(group for group in groups.values() if group.verdict is not Verdict.PASS),
        )
        for name, groups in found.items()
    ]
    return sorted(listed, key=lambda row: -row.worst.badness if not row.worst.expected else 0)


def _cause(test: TestResult) -> str:
    """Return what groups cells: no reason for PASS, and no numbers of a failure's reason."""
    if test.verdict.expected:
        return "" if test.verdict is Verdict.PASS else test.reason
    return attention.alike(test.reason)


def _worst_first(groups: Iterable[Group]) -> tuple[Group, ...]:
    return tuple(sorted(groups, key=lambda group: -group.verdict.badness))


def events_of_test(test: TestResult, scenarios: Scenarios) -> list[str]:
    """Return the event types in a test's ledger and those it needs: a test that did not run has no ledger."""
    needed = _needed(scenarios[test.name]) if test.name in scenarios else ()
    return list(dict.fromkeys([*test.ledger, *needed]))


def events(results: Results) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the event types of each cell and its tests, by its id, and those of each test, by its name."""
    needed = {name: _needed(scenario) for name, scenario in results.scenarios.items()}
    by_cell: dict[str, dict[str, None]] = {}
    by_test: dict[str, dict[str, None]] = {}
    for cell in results.cells:
        of_cell = by_cell[cell.id] = dict.fromkeys(hooks.events(cell))
        for test in cell.tests:
            of_test = dict.fromkeys([*test.ledger, *needed.get(test.name, ())])
            of_cell.update(of_test)
            by_test.setdefault(test.name, {}).update(of_test)
    return _listed(by_cell), _listed(by_test)


def _needed(scenario: Scenario) -> list[str]:
    return [need.removeprefix("event:") for need in scenario.needs if need.startswith("event:")]


def _listed(found: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    return {name: list(entries) for name, entries in found.items()}
