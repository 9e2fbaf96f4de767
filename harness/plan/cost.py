"""Estimates how long each machine of a plan takes, and puts the longest machine first.

`last` maps names to the seconds that they took in an earlier run: `CELL::TEST` for a test, the cell's id for
all else of a cell (load, the check at the end, and the boot of a machine, which counts in one of its cells).
A test without an entry is estimated from the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agent.selftest import catalogue
from harness.plan.cells import Cell
from harness.plan.plan import Plan

# What an emulated guest takes on a quiet host besides its tests.
BOOT_GUESS_S = 4.0  # a saved machine is restored, and the agent copied
CELL_GUESS_S = 15.0  # the agent loads, and the end is checked
COMPILE_GUESS_S = 100.0  # BCC compiles the agent's programs
BRIEF_S = 0.3  # a scenario that costs up to a second, by which its deadline is chosen: 0.1 to 0.5 s were seen
TIMES = "matrix.times"  # beside the matrix: what all hosts know, written by `harness history --times`


def longest_first(plan: Plan, last: Mapping[str, float]) -> list[str]:
    """The names of the plan's machines, longest first."""
    seconds = {name: machine_seconds(cells, last) for name, cells in plan.machines().items()}
    return sorted(seconds, key=lambda name: -seconds[name])


def machine_seconds(cells: Iterable[Cell], last: Mapping[str, float]) -> float:
    """The seconds that a machine with these cells takes."""
    cells = list(cells)
    return other_seconds(cells, last) + sum(
        seconds_of_test(cell, test, last) for cell in cells for test in cell.tests
    )


def other_seconds(cells: Iterable[Cell], last: Mapping[str, float]) -> float:
    """The seconds of a machine with these cells besides their tests: boot, load, and the check at the end."""
    cells = list(cells)
    boot = 0.0 if any(cell.id in last for cell in cells) else BOOT_GUESS_S
    return boot + sum(last.get(cell.id, CELL_GUESS_S + COMPILE_GUESS_S * cell.compiles) for cell in cells)


def cell_seconds(cell: Cell, neighbours: Sequence[Cell], last: Mapping[str, float]) -> float:
    """The seconds of a cell's tests, and its share of the other time of its machine's cells, `neighbours`."""
    tests = sum(seconds_of_test(cell, test, last) for test in cell.tests)
    return tests + other_seconds(neighbours, last) / len(neighbours)


def seconds_of_test(cell: Cell, test: str, last: Mapping[str, float]) -> float:
    """The seconds that one test takes."""
    usual = usual_s(test)
    return last.get(key_of_test(cell.id, test), usual if usual > 1 else min(usual, BRIEF_S))


def usual_s(test: str) -> float:
    """The seconds that a scenario usually takes; 0 for a user's program."""
    scenario = catalogue.by_name(test)
    return scenario.cost if scenario else 0.0


def key_of_test(cell: str, test: str) -> str:
    """The name under which the seconds of a test are remembered."""
    return f"{cell}::{test}"
