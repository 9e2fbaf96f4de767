"""How long machines took, and so which of them goes first."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from agent.selftest import catalogue
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results.model import CellResult, write_atomic

BOOT_GUESS_S = 10.0


def longest_first(plan: Plan, last: Mapping[str, float]) -> list[str]:
    """The machines of `plan`, longest first: by `last` seconds where known, else by what their tests cost."""
    guesses = {name: last.get(name, machine_cost(cells)) for name, cells in plan.machines().items()}
    return sorted(guesses, key=lambda name: -guesses[name])


def machine_cost(cells: Iterable[Cell]) -> float:
    """The seconds that a machine will take, as far as its tests' costs tell."""
    scenarios = (catalogue.by_name(test) for cell in cells for test in cell.tests)
    return BOOT_GUESS_S + sum(scenario.cost for scenario in scenarios if scenario)


def read_times(path: Path) -> dict[str, float]:
    """Seconds that each machine took, from `path`; what cannot be read is not known."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(seconds) for name, seconds in found.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def write_times(path: Path, plan: Plan, results: Iterable[CellResult]) -> None:
    """Remember in `path` how long the machines of this run took, beside what is known of others."""
    spent: dict[str, float] = {}
    for result in results:
        machine = plan.cell(result.id).machine
        spent[machine] = round(spent.get(machine, 0.0) + result.phases.total_s, 2)
    known = {name: seconds for name, seconds in spent.items() if seconds}
    write_atomic(path, json.dumps(read_times(path) | known))
