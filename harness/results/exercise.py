"""Finds the hook sets and scenarios that no cell of a run exercised, although some cell had to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from agent.selftest import catalogue
from harness.plan.plan import Plan
from harness.results.model import CellResult, TestResult
from harness.results.verdict import Verdict


def unexercised(plan: Plan, cells: Iterable[CellResult]) -> list[str]:
    """A line for each hook set and each scenario that a run must exercise and that no cell exercised.

    A hook set counts as exercised if the kernel counted runs of its programs, or if it does not count runs
    and a test passed. A hook set with a cell that the infrastructure lost is not reported. A scenario that
    needs a faster host is reported by `untried`. A run with `must_pass` needs a PASS of each of its tests,
    also if the user selected parts of the matrix.
    """
    listed = list(cells)
    lines = [
        f"hook set {name}: declared in the matrix, and no cell of the whole run exercised it"
        for name in plan.exercise
        if not any(_exercised(cell) or _unknown(cell) for cell in listed if cell.hookset == name)
    ]
    if plan.must_pass:
        return lines + [f"{name}: passed in no cell: {reason}" for name, reason in _never_passed(listed)]
    return lines + [
        f"{name}: no cell of the whole run could run it: {reason}"
        for name, reason in _skipped(plan, listed)
        if not _host_bound(name)
    ]


def untried(plan: Plan, cells: Iterable[CellResult]) -> list[str]:
    """A line for each scenario that no cell of a whole run could run because this host is too slow."""
    if plan.must_pass:
        return []
    return [
        f"{name}: could not be tried on this host: {reason}"
        for name, reason in _skipped(plan, list(cells))
        if _host_bound(name)
    ]


def _skipped(plan: Plan, cells: Sequence[CellResult]) -> Iterator[tuple[str, str]]:
    """The tests of a whole run that every cell skipped, each with the reason of the first cell."""
    for name, tests in _by_name(cells if plan.exercise else ()).items():
        if all(test.verdict is Verdict.SKIP for test in tests):
            yield name, tests[0].reason


def _never_passed(cells: Sequence[CellResult]) -> Iterator[tuple[str, str]]:
    """The tests that only end as expected without a PASS; another verdict fails the run by itself."""
    for name, tests in _by_name(cells).items():
        if all(test.verdict in (Verdict.SKIP, Verdict.XFAIL) for test in tests):
            yield name, tests[0].reason


def _by_name(cells: Iterable[CellResult]) -> dict[str, list[TestResult]]:
    by_name: dict[str, list[TestResult]] = {}
    for cell in cells:
        for test in cell.tests:
            by_name.setdefault(test.name, []).append(test)
    return by_name


def _host_bound(name: str) -> bool:
    scenario = catalogue.by_name(name)
    return bool(scenario and scenario.host_bound)


def _exercised(cell: CellResult) -> bool:
    counted = [hook.runs for hook in cell.hooks if hook.runs is not None]
    return any(counted) if counted else any(test.verdict is Verdict.PASS for test in cell.tests)


def _unknown(cell: CellResult) -> bool:
    return cell.verdict.unknown
