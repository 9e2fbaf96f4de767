"""Describes scenarios for results.json and the documentation, from the agent's catalogue."""

from __future__ import annotations

from collections.abc import Iterable

from agent.selftest import catalogue
from harness.results.model import CellResult, Scenario


def of_catalogue() -> dict[str, Scenario]:
    """Return every scenario by name, in the order of the catalogue."""
    return {
        scenario.name: Scenario(proves=scenario.proves, needs=scenario.needs)
        for scenario in catalogue.CATALOGUE
    }


def of_cells(cells: Iterable[CellResult]) -> dict[str, Scenario]:
    """Return the scenarios that are among the tests of `cells`, by name."""
    tests = {test.name for cell in cells for test in cell.tests}
    return {name: scenario for name, scenario in of_catalogue().items() if name in tests}
