"""What a whole run declares and no cell of it exercised: hook sets and scenarios."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.selftest import catalogue
from harness.plan.plan import Plan
from harness.results.model import CellResult, TestResult
from harness.results.verdict import Verdict


def unexercised(plan: Plan, cells: Iterable[CellResult]) -> list[str]:
    """A line for each hook set and each scenario that a whole run must exercise and that no cell did.

    A set fired where a kernel counted its programs' runs, or where they are not counted and a test passed.
    Where a cell was lost to the machinery nothing is known. A scenario that only a faster host could try is
    in `untried`.
    """
    found = list(cells)
    lines = [
        f"hook set {name}: declared in the matrix, and no cell of the whole run exercised it"
        for name in plan.exercise
        if not any(_exercised(cell) or _unknown(cell) for cell in found if cell.hookset == name)
    ]
    return lines + [
        f"{name}: no cell of the whole run could run it: {reason}"
        for name, reason in _skipped(plan, found)
        if not _host_bound(name)
    ]


def untried(plan: Plan, cells: Iterable[CellResult]) -> list[str]:
    """A line for each scenario that this host is too slow for: no cell of a whole run could run it."""
    return [
        f"{name}: could not be tried on this host: {reason}"
        for name, reason in _skipped(plan, list(cells))
        if _host_bound(name)
    ]


def _skipped(plan: Plan, cells: Sequence[CellResult]) -> Iterator[tuple[str, str]]:
    """The tests of a whole run that every cell skipped, each with the reason of the first."""
    ended: dict[str, list[TestResult]] = {}
    for cell in cells if plan.exercise else ():
        for test in cell.tests:
            ended.setdefault(test.name, []).append(test)
    for name, tests in ended.items():
        if all(test.verdict is Verdict.SKIP for test in tests):
            yield name, tests[0].reason


def _host_bound(name: str) -> bool:
    scenario = catalogue.by_name(name)
    return bool(scenario and scenario.host_bound)


def _exercised(cell: CellResult) -> bool:
    counted = [hook.runs for hook in cell.hooks if hook.runs is not None]
    return any(counted) if counted else any(test.verdict is Verdict.PASS for test in cell.tests)


def _unknown(cell: CellResult) -> bool:
    return cell.verdict in (Verdict.INFRA, Verdict.BOOT_FAIL, Verdict.NOT_RUN)
