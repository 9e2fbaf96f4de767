"""Runs the trials of a bench in interleaved rounds: a change of the host's load reaches all monitors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from harness.bench.model import Trial
from harness.bench.monitors import MONITORS, NONE, Monitor
from harness.bench.workloads import WORKLOADS, Workload
from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import Progress
from harness.plan.matrix import close_to

T = TypeVar("T")
Measure = Callable[[int, Monitor, Sequence[Workload]], Trial]
ATTEMPTS = 2  # of one trial: a machine can fail without any monitor


def chosen_monitors(globs: Sequence[str]) -> tuple[Monitor, ...]:
    """Return the monitors by name; always the one without a monitor, which others are compared with."""
    found = _chosen("--monitor", globs, {monitor.name: monitor for monitor in MONITORS})
    return found if found[0].name == NONE else (MONITORS[0], *found)


def chosen_workloads(globs: Sequence[str]) -> tuple[Workload, ...]:
    """Return the workloads by name."""
    return _chosen("--workload", globs, {workload.name: workload for workload in WORKLOADS})


def _chosen(option: str, globs: Sequence[str], known: dict[str, T]) -> tuple[T, ...]:
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            hint = f"choose from {', '.join(known)}"
            raise ConfigError(f"{option} {glob}: no such name{close_to(glob, list(known))}", hint=hint)
    wanted = globs or ["*"]
    return tuple(one for name, one in known.items() if any(fnmatchcase(name, glob) for glob in wanted))


def play(
    measure: Measure,
    monitors: Sequence[Monitor],
    workloads: Sequence[Workload],
    rounds: int,
    progress: Progress,
) -> Iterator[Trial]:
    """Yield each trial when it ends; the order of the monitors is reversed in every second round.

    A monitor that cannot run is not tried again. Raises InfrastructureError if a trial fails twice.
    """
    unable: set[str] = set()
    for number in range(1, rounds + 1):
        for monitor in monitors if number % 2 else reversed(monitors):
            if monitor.name in unable:
                continue
            progress(f"round {number} of {rounds}: {monitor.name}")
            found = _measured(measure, number, monitor, workloads, progress)
            if found.unable:
                unable.add(monitor.name)
                progress(f"{monitor.name} cannot run: {found.unable}")
            yield found


def _measured(
    measure: Measure, number: int, monitor: Monitor, workloads: Sequence[Workload], progress: Progress
) -> Trial:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return measure(number, monitor, workloads)
        except InfrastructureError as error:
            if attempt == ATTEMPTS:
                raise
            progress(f"{monitor.name}: {error.message}; measuring again in a new machine")
    raise AssertionError("unreachable")
