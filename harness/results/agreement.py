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
    planned = {cell.id: cell for cell in plan.cells}
    variants = (
        (cell.id, _planned(planned[cell.id], cell), _present(cell))
        for cell in results.cells
        if cell.id in planned
    )
    return [
        f"{name}: planned as {_words(wanted)}, and the results are of {_words(found)}"
        for name, wanted, found in variants
        if wanted != found
    ]


def _planned(cell: Cell, result: CellResult) -> tuple[str, ...]:
    """The planned variant, with those properties that the results of its harness have."""
    settings = setting(cell.cmdline), setting(cell.sysctl)
    more = (cell.kernel.flavour, _vcpus(cell.kernel.vcpus)) if result.kernel.vcpus else ("", "")
    variant = cell.arch, cell.hookset, cell.btf, cell.transport, *settings, cell.world
    return cell.kernel.requested, *variant, *more


def _present(cell: CellResult) -> tuple[str, ...]:
    more = cell.kernel.flavour, _vcpus(cell.kernel.vcpus)
    variant = cell.arch, cell.hookset, cell.btf, cell.transport, cell.cmdline, cell.sysctl, cell.world
    return cell.kernel.requested, *variant, *more


def _vcpus(number: int) -> str:
    return f"vcpus={number}" if number else ""


def _words(variant: tuple[str, ...]) -> str:
    return " ".join(filter(None, variant))
