"""Holds the code of the scenarios: one module for each family, found by the scenario's name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
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


@contextmanager
def at_least(parameter: str, least: int) -> Iterator[None]:
    """Raise a parameter of the kernel, such as `kernel/pid_max`, for the block if it is lower."""
    file = Path("/proc/sys", parameter)
    before = file.read_text("ascii")
    file.write_text(f"{max(least, int(before))}\n", "ascii")
    try:
        yield
    finally:
        file.write_text(before, "ascii")


def until(holds: Callable[[], bool], patience_s: float) -> bool:
    """Check a condition until it holds or the time is up; return whether it holds."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)  # between two checks
    return True


def sleeps(pid: str, state: str = "S") -> bool:
    """Return whether a process sleeps: `S`, or `D` if no signal wakes it."""
    known = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2]
    return known.split()[0] == state
