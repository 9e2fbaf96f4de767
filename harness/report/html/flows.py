"""The section "Ledger" (templates/ledger.html.j2): what became of the events of each type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.results import ledger
from harness.results.ledger import Account
from harness.results.model import CellResult, LedgerRow, Results

CELLS = 60  # in the table of one event type


@dataclass(frozen=True)
class CellFlow:
    """The events of one type in one cell, summed over its tests; `off` has tests with a wrong ledger."""

    cell: CellResult
    account: Account
    off: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class EventFlow:
    """The events of one type in all cells."""

    account: Account
    cells: tuple[CellFlow, ...]

    @property
    def shown(self) -> tuple[CellFlow, ...]:
        """The cells that the table has, those with a wrong ledger first."""
        return tuple(sorted(self.cells, key=lambda flow: not flow.off)[:CELLS])

    @property
    def hidden(self) -> int:
        """How many cells the table leaves out."""
        return max(0, len(self.cells) - CELLS)

    @property
    def off(self) -> int:
        """How many tests have a ledger of this event that does not add up."""
        return sum(len(flow.off) for flow in self.cells)


def flows(results: Results) -> list[EventFlow]:
    """Return one flow for each event type in the ledger of any test."""
    found: dict[str, list[CellFlow]] = {}
    for cell in results.cells:
        rows: dict[str, list[tuple[str, LedgerRow]]] = {}
        for test in cell.tests:
            for event, row in test.ledger.items():
                rows.setdefault(event, []).append((test.name, row))
        for event, of_event in rows.items():
            found.setdefault(event, []).append(_cell_flow(cell, event, of_event))
    return [
        EventFlow(ledger.total(event, (flow.account.row for flow in cells)), tuple(cells))
        for event, cells in found.items()
    ]


def _cell_flow(cell: CellResult, event: str, rows: Sequence[tuple[str, LedgerRow]]) -> CellFlow:
    off = [(name, account.off) for name, row in rows if not (account := Account(event, row)).ok]
    return CellFlow(cell, ledger.total(event, (row for _, row in rows)), tuple(off))
