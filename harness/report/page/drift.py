"""Hook drift: which rung of the ladder each kernel took for each event, and where that changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.report.page import words
from harness.results import CellResult, Hook, Results

CAPABILITY = {"fires": "good", "silent": "shaky", "attach-fail": "known", "load-fail": "known"}


@dataclass(frozen=True)
class Rung:
    """What a kernel uses for an event; `changed` when the kernel before it in the table uses another."""

    hooks: tuple[Hook, ...]
    coverage: str
    changed: bool


@dataclass(frozen=True)
class EventRow:
    """One event over the kernels of a table; None where a kernel has no hook and no word about it."""

    event: str
    rungs: tuple[Rung | None, ...]

    @property
    def changes(self) -> int:
        """How often the rung changes from one kernel to the next."""
        return sum(rung.changed for rung in self.rungs if rung)


@dataclass(frozen=True)
class CapabilityRow:
    """What was observed of one hook type, kernel by kernel; "" where nothing was."""

    type: str
    states: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """All kernels of one variant."""

    hookset: str
    rest: str
    cells: tuple[CellResult, ...]
    events: tuple[EventRow, ...]
    capabilities: tuple[CapabilityRow, ...]


def tables(results: Results) -> list[Table]:
    """One table a variant; cells that never loaded have nothing to tell and are left out."""
    grouped: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in results.cells:
        if cell.hooks or cell.capabilities:
            grouped.setdefault(words.variant_key(cell), []).append(cell)
    return [_table(cells) for cells in grouped.values()]


def rung_key(hooks: Iterable[Hook]) -> tuple[tuple[str, str], ...]:
    """What makes two rungs the same: program types and points, whatever their order."""
    return tuple(sorted({(hook.type, hook.point) for hook in hooks}))


def _table(cells: list[CellResult]) -> Table:
    events = _names(([hook.event for hook in cell.hooks], cell.coverage) for cell in cells)
    types = _names((cell.capabilities,) for cell in cells)
    return Table(
        hookset=cells[0].hookset,
        rest=words.variant_rest(cells[0]),
        cells=tuple(cells),
        events=tuple(EventRow(event, _rungs(event, cells)) for event in events),
        capabilities=tuple(
            CapabilityRow(name, tuple(cell.capabilities.get(name, "") for cell in cells)) for name in types
        ),
    )


def _rungs(event: str, cells: Sequence[CellResult]) -> tuple[Rung | None, ...]:
    rungs: list[Rung | None] = []
    before: tuple[tuple[str, str], ...] | None = None
    for cell in cells:
        hooks = tuple(hook for hook in cell.hooks if hook.event == event)
        coverage = cell.coverage.get(event, "")
        key = rung_key(hooks)
        changed = before is not None and key != before
        rungs.append(Rung(hooks, coverage, changed) if hooks or coverage else None)
        before = key if hooks or coverage else before
    return tuple(rungs)


def _names(groups: Iterable[Iterable[Iterable[str]]]) -> list[str]:
    return list(dict.fromkeys(name for group in groups for names in group for name in names))
