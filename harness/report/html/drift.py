"""The section "Hooks" (templates/drift.html.j2): the hooks that each kernel uses, and where they change."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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

    @property
    def _predicted(self) -> list[Hook]:
        return [hook for cell in self.cells for hook in cell.hooks if hook.predicted]


def tables(results: Results) -> list[Table]:
    """Return one table for each variant, without the cells that never loaded."""
    grouped: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in results.cells:
        if cell.hooks or cell.capabilities:
            grouped.setdefault(words.variant_key(cell), []).append(cell)
    rests = words.variants(cell for cells in grouped.values() for cell in cells)
    return [_narrow(_table(cells, rests[cells[0].id])) for cells in grouped.values()]


def _narrow(table: Table) -> Table:
    """Leave out kernels that have the hooks of the one to their left, if there are more than COLUMNS."""
    if len(table.cells) <= COLUMNS:
        return table
    moved = {
        at
        for row in table.points
        for at, found in enumerate(row.kernels)
        if any(s.moved for s in found.steps)
    }
    wrong = {at for at, cell in enumerate(table.cells) if any(map(hooks.surprising, cell.hooks))}
    kept = sorted({0, *moved, *wrong})[:COLUMNS]
    return replace(
        table,
        cells=tuple(table.cells[at] for at in kept),
        points=tuple(replace(row, kernels=tuple(row.kernels[at] for at in kept)) for row in table.points),
        partly=tuple(replace(row, states=tuple(row.states[at] for at in kept)) for row in table.partly),
        capabilities=tuple(
            replace(row, states=tuple(row.states[at] for at in kept)) for row in table.capabilities
        ),
        hidden=len(table.cells) - len(kept),
    )


def _table(cells: list[CellResult], rest: str) -> Table:
    coverage = _facts([cell.coverage for cell in cells])
    names = {row.name for row in coverage}
    at_point = [_by_point(cell) for cell in cells]
    points = dict.fromkeys(point for found in at_point for point in found)
    return Table(
        hookset=cells[0].hookset,
        rest=rest,
        cells=tuple(cells),
        points=tuple(
            PointRow(
                name, name if name in names else "", _hooks_at([found.get(name, []) for found in at_point])
            )
            for name in points
        ),
        partly=tuple(row for row in coverage if set(row.states) - {"full", ""}),
        capabilities=_facts([cell.capabilities for cell in cells]),
    )


def _by_point(cell: CellResult) -> dict[str, list[Hook]]:
    found: dict[str, list[Hook]] = {}
    for hook in cell.hooks:
        found.setdefault(hooks.point(hook), []).append(hook)
    return found


def _hooks_at(cells: Iterable[Sequence[Hook]]) -> tuple[PointHooks, ...]:
    """Return the hooks at one point of each kernel, given those of each cell."""
    left: dict[str, tuple[tuple[str, str], ...]] = {}
    kernels: list[PointHooks] = []
    for here in cells:
        used = [hook for hook in here if hooks.in_use(hook)]
        keys = {
            name: hooks.hooks_in_use(hook for hook in used if hook.event == name)
            for name in dict.fromkeys(hook.event for hook in used)
        }
        steps = (
            Step(hooks.phase(hook), hook, left.get(hook.event, keys[hook.event]) != keys[hook.event])
            for hook in used
        )
        kernels.append(PointHooks(tuple(steps), tuple(hook for hook in here if not hooks.in_use(hook))))
        left.update(keys)
    return tuple(kernels)


def _facts(found: list[dict[str, str]]) -> tuple[FactRow, ...]:
    names = dict.fromkeys(name for facts in found for name in facts)
    return tuple(FactRow(name, tuple(facts.get(name, "") for facts in found)) for name in names)
