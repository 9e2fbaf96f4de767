"""The bodies of the scenarios: one file a family, found by the scenario's name."""

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
    """Mark the body of the scenario of that name in the catalogue."""

    def register(body: Body) -> Body:
        if name in _BODIES:
            raise ValueError(f"{name} has two bodies")
        _BODIES[name] = body
        return body

    return register


def body_of(scenario: Scenario) -> Body:
    """The body of a scenario; imports its family's file on first use."""
    import_module(f"{__name__}.{scenario.family}")
    return _BODIES[scenario.name]


def written(family: str) -> frozenset[str]:
    """The names that a family's file has bodies for."""
    import_module(f"{__name__}.{family}")
    return frozenset(name for name in _BODIES if name.startswith(f"{family}."))
