"""Compares results with the plan that they are the results of."""

from __future__ import annotations

from collections import Counter

from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import CellResult, Results, setting


def disagreements(plan: Plan, results: Results) -> list[str]:
    """The differences between results and plan, one line each; none if each planned test has one result."""
    planned = dict.fromkeys(plan.pairs())
    present = Counter((cell.id, test.name) for cell in results.cells for test in cell.tests)
    absent = [pair for pair in planned if pair not in present]
    extra = [pair for pair in present if pair not in planned]
    twice = [pair for pair, count in sorted(present.items()) if count > 1]
    lines = [f"{cell} {test}: planned, and not in the results" for cell, test in absent]
    lines += [f"{cell} {test}: in the results, and not planned" for cell, test in extra]
    lines += [f"{cell} {test}: twice in the results" for cell, test in twice]
    return lines + other_variants(plan, results)


def other_variants(plan: Plan, results: Results) -> list[str]:
    """A line for each cell whose results belong to another variant than the planned one."""
    planned = {cell.id: _planned(cell) for cell in plan.cells}
    present = {cell.id: _present(cell) for cell in results.cells}
    return [
        f"{name}: planned as {_words(planned[name])}, and the results are of {_words(variant)}"
        for name, variant in present.items()
        if name in planned and planned[name] != variant
    ]


def _planned(cell: Cell) -> tuple[str, ...]:
    settings = setting(cell.cmdline), setting(cell.sysctl)
    return cell.kernel.requested, cell.arch, cell.hookset, cell.btf, cell.transport, *settings, cell.world


def _present(cell: CellResult) -> tuple[str, ...]:
    settings = cell.cmdline, cell.sysctl
    return cell.kernel.requested, cell.arch, cell.hookset, cell.btf, cell.transport, *settings, cell.world


def _words(variant: tuple[str, ...]) -> str:
    return " ".join(filter(None, variant))
