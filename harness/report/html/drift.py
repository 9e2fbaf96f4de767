"""The section "Hooks" (templates/drift.html.j2): the hooks that each kernel uses, and where they change."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.shared import hooks, words
from harness.results.model import CellResult, Hook, Results

COLUMNS = 8  # kernels in one table, if there are more

_FAMILY = {
    "fires": "good",
    "full": "good",
    "silent": "shaky",
    "degraded": "shaky",
    "attach-fail": "known",
    "load-fail": "known",
}


def capability(name: str, state: str) -> str:
    """Return the family, which gives the colour, of the observed state of a program type or an event type.

    `skips` is no type: if it is silent, the kernel never skips programs on trampolines, which is good.
    """
    return "known" if name in ("skips", "reattach") else _FAMILY.get(state, "known")


@dataclass(frozen=True)
class Step:
    """A hook in use; `moved` if the kernel to the left uses other hooks for that phase."""

    phase: str
    hook: Hook
    moved: bool


@dataclass(frozen=True)
class PointHooks:
    """The hooks that a kernel uses at a point, and those that the agent tried and could not use."""

    steps: tuple[Step, ...]
    tried: tuple[Hook, ...]

    @property
    def notable(self) -> bool:
        """Whether a hook moved, or differs from its predicted state."""
        used = (step.hook for step in self.steps)
        return any(step.moved for step in self.steps) or any(map(hooks.surprising, (*used, *self.tried)))


@dataclass(frozen=True)
class PointRow:
    """One point over the kernels of a table; `event` is empty if the point serves several event types."""

    point: str
    event: str
    kernels: tuple[PointHooks, ...]

    @property
    def moves(self) -> int:
        """How many hooks differ from the kernel to the left."""
        return sum(step.moved for kernel in self.kernels for step in kernel.steps)


@dataclass(frozen=True)
class FactRow:
    """The observed state of a program type or event type on each kernel; "" if not observed."""

    name: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """The kernels of one variant; `partly` are the event types that some kernel does not see whole."""

    hookset: str
    rest: str
    cells: tuple[CellResult, ...]
    points: tuple[PointRow, ...]
    partly: tuple[FactRow, ...]
    capabilities: tuple[FactRow, ...]
    hidden: int = 0  # kernels without a column

    @property
    def surprises(self) -> int:
        """How many hooks differ from their predicted state."""
        return sum(map(hooks.surprising, self._predicted))

    @property
    def as_predicted(self) -> int:
        """How many hooks have their predicted state."""
        return len(self._predicted) - self.surprises

    @functools.cached_property
    def _predicted(self) -> list[Hook]:
        return [hook for cell in self.cells for hook in cell.hooks if hook.predicted]


def tables(results: Results) -> list[Table]:
    """Return one table for each variant, without the cells that never loaded."""
    grouped: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in results.cells:
        if cell.hooks or cell.capabilities:
            grouped.setdefault(words.variant_key(cell), []).append(cell)
    rests = words.variants(cell for cells in grouped.values() for cell in cells)
    return [_table(cells, rests[cells[0].id]) for cells in grouped.values()]


def _table(cells: list[CellResult], rest: str) -> Table:
    columns = _columns(cells)
    shown = tuple(cell for cell, _ in columns)
    points = dict.fromkeys(point for _, found in columns for point in found)
    events = {event for cell in cells for event in cell.coverage}
    partly = {event for cell in cells for event, state in cell.coverage.items() if state != "full"}
    return Table(
        hookset=cells[0].hookset,
        rest=rest,
        cells=shown,
        points=tuple(
            PointRow(
                point,
                point if point in events else "",
                tuple(found.get(point, PointHooks((), ())) for _, found in columns),
            )
            for point in points
        ),
        partly=tuple(row for row in _facts([cell.coverage for cell in shown]) if row.name in partly),
        capabilities=_facts([cell.capabilities for cell in shown]),
        hidden=len(cells) - len(shown),
    )


def _columns(cells: list[CellResult]) -> list[tuple[CellResult, dict[str, PointHooks]]]:
    """Return kernels with their hooks by point; of many only the first ones where something differs."""
    columns: list[tuple[CellResult, dict[str, PointHooks]]] = []
    left: dict[str, tuple[tuple[str, str], ...]] = {}
    for cell in cells:
        found = {point: _hooks_at(here, left) for point, here in _by_point(cell).items()}
        if not columns or len(cells) <= COLUMNS or any(at_point.notable for at_point in found.values()):
            columns.append((cell, found))
        if len(columns) == COLUMNS:
            break
    return columns


def _by_point(cell: CellResult) -> dict[str, list[Hook]]:
    found: dict[str, list[Hook]] = {}
    for hook in cell.hooks:
        found.setdefault(hooks.point(hook), []).append(hook)
    return found


def _hooks_at(here: Sequence[Hook], left: dict[str, tuple[tuple[str, str], ...]]) -> PointHooks:
    """Return a kernel's hooks at a point, given those in use to its left by event, and replace these."""
    used = [hook for hook in here if hooks.in_use(hook)]
    keys = {
        name: hooks.hooks_in_use(hook for hook in used if hook.event == name)
        for name in dict.fromkeys(hook.event for hook in used)
    }
    steps = tuple(
        Step(hooks.phase(hook), hook, left.get(hook.event, keys[hook.event]) != keys[hook.event])
        for hook in used
    )
    left.update(keys)
    return PointHooks(steps, tuple(hook for hook in here if not hooks.in_use(hook)))


def _facts(found: list[dict[str, str]]) -> tuple[FactRow, ...]:
    names = dict.fromkeys(name for facts in found for name in facts)
    return tuple(FactRow(name, tuple(facts.get(name, "") for facts in found)) for name in names)
