"""The matrix view: a row for each kernel, a column for each variant."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.report.shared import words
from harness.results.model import CellResult, KernelFacts, Results


@dataclass(frozen=True)
class Column:
    """A variant; `rest` are its properties that are not the default, besides the hook set."""

    hookset: str
    rest: str


@dataclass(frozen=True)
class Row:
    """A kernel and its cells by column; None if the plan has no such cell."""

    kernel: KernelFacts
    cells: tuple[CellResult | None, ...]


@dataclass(frozen=True)
class Grid:
    """The whole matrix."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def grid(results: Results) -> Grid:
    """Return rows and columns in the order of the results."""
    keys: dict[tuple[str, ...], Column] = {}
    rows: dict[str, dict[tuple[str, ...], CellResult]] = {}
    rests = words.variants(results.cells)
    for cell in results.cells:
        key = words.variant_key(cell)
        keys.setdefault(key, Column(cell.hookset, rests[cell.id]))
        rows.setdefault(cell.kernel.name, {})[key] = cell
    return Grid(
        tuple(keys.values()),
        tuple(Row(_facts(cells.values()), tuple(cells.get(key) for key in keys)) for cells in rows.values()),
    )


def _facts(cells: Iterable[CellResult]) -> KernelFacts:
    listed = [cell.kernel for cell in cells]
    return next((kernel for kernel in listed if kernel.release), listed[0])
