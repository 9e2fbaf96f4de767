"""Remembers how long machines and tests took, and estimates from it how much time a run has left."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from harness.errors import ConfigError
from harness.host import files
from harness.plan.cells import Cell
from harness.plan.cost import key_of_test, other_seconds, seconds_of_test
from harness.plan.plan import Plan
from harness.results.model import CellResult
from harness.text import one_line

_MAX_BYTES = 16 << 20
_MAX_S = 1e9
_TIMES: TypeAdapter[dict[str, float]] = TypeAdapter(
    dict[str, Annotated[float, Field(ge=0, lt=_MAX_S, allow_inf_nan=False)]]
)


def read_times(path: Path) -> dict[str, float]:
    """Seconds by name, from `path`; empty if it cannot be read.

    A name is `CELL::TEST`, or a cell: its time is that of boot, load and close, without the tests.
    """
    try:
        found = json.loads(files.read_regular(path, _MAX_BYTES))
        known = {str(name): float(seconds) for name, seconds in found.items()}
        return {name: seconds for name, seconds in known.items() if 0 <= seconds < _MAX_S}
    except (OSError, ValueError, ArithmeticError, AttributeError, TypeError, RecursionError):
        return {}


def read_shared(path: Path) -> dict[str, float]:
    """The times beside a matrix; empty if there is no such file.

    Raises ConfigError for a damaged file: a host that ignored it would have other shards than the others.
    """
    try:
        found = _TIMES.validate_json(files.read_regular(path, _MAX_BYTES))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = one_line(": ".join(map(str, (*first["loc"], first["msg"]))))
        hint = "write it with `harness history DIR... --times`, or remove it on all hosts"
        raise ConfigError(f"{path}: not the seconds of cells and tests: {where}", hint=hint) from error
    return found


def write_times(path: Path, results: Iterable[CellResult]) -> None:
    """Store in `path` how long cells and tests of this run took; times of others stay in the file."""
    spent: dict[str, float] = {}
    for result in results:
        if not result.phases.total_s:
            continue
        tests = {key_of_test(result.id, test.name): test.duration_s for test in result.tests}
        spent[result.id] = max(0.0, result.phases.total_s - sum(tests.values()))
        spent |= tests
    known = {name: round(seconds, 2) for name, seconds in spent.items()}
    files.write_atomic(path, json.dumps(read_times(path) | known))


@dataclass
class Estimate:
    """Estimates how long a run on `workers` machines at once still takes; `last` is from `read_times`."""

    plan: Plan
    last: Mapping[str, float]
    workers: int
    _ended: set[tuple[str, str]] = field(default_factory=set)
    _begun: list[str] = field(default_factory=list)  # machines in the order of their boots

    def begin(self, machine: str) -> None:
        """Record that a machine boots."""
        if machine not in self._begun:
            self._begun.append(machine)

    def end(self, cell: str, test: str) -> None:
        """Record that a test ended."""
        self._ended.add((cell, test))

    def left(self) -> float | None:
        """Return the seconds left; None if a cell of a machine that has tests left was never run before."""
        machines = self.plan.machines()
        left = {name: self._of_machine(cells) for name, cells in machines.items()}
        left = {name: seconds for name, seconds in left.items() if seconds}
        if any(cell.id not in self.last for name in left for cell in machines[name]):
            return None
        running = [left.pop(name) for name in self._begun if name in left]
        free = sorted(running)[-self.workers :] + [0.0] * (self.workers - len(running))
        heapq.heapify(free)
        for seconds in sorted(left.values(), reverse=True):
            heapq.heapreplace(free, free[0] + seconds)
        return max(free)

    def _of_machine(self, cells: list[Cell]) -> float:
        """Return the seconds left of a machine: its tests, and the same share of its other time."""
        planned = sum(len(cell.tests) for cell in cells)
        cells = [
            cell.model_copy(
                update={"tests": tuple(test for test in cell.tests if (cell.id, test) not in self._ended)}
            )
            for cell in cells
        ]
        tests = sum(seconds_of_test(cell, test, self.last) for cell in cells for test in cell.tests)
        share = sum(len(cell.tests) for cell in cells) / planned if planned else 0.0
        return tests + share * other_seconds(cells, self.last)
