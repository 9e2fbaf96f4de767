"""Holds the code of the scenarios: one module for each family, found by the scenario's name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.selftest.bench import Bench
    from agent.selftest.catalogue import Scenario

Body = Callable[["Bench"], None]

_BODIES: dict[str, Body] = {}


def proves(name: str) -> Callable[[Body], Body]:
    """Register a function as the code of the scenario with this name in the catalogue."""

    def register(body: Body) -> Body:
        if name in _BODIES:
            raise ValueError(f"two functions for scenario {name}")
        _BODIES[name] = body
        return body

    return register


def body_of(scenario: Scenario) -> Body:
    """Return the code of a scenario; imports the module of its family on first use."""
    import_module(f"{__name__}.{scenario.family}")
    return _BODIES[scenario.name]


def written(family: str) -> frozenset[str]:
    """Return the names of the scenarios that a family's module has code for."""
    import_module(f"{__name__}.{family}")
    return frozenset(name for name in _BODIES if name.startswith(f"{family}."))
