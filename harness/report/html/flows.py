"""The section "Ledger" (templates/ledger.html.j2): what became of the events of each type."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.results import ledger
from harness.results.ledger import Account
from harness.results.model import CellResult, Results

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
        accounts: dict[str, list[tuple[str, Account]]] = {}
        for test in cell.tests:
            for account in ledger.accounts(test.ledger):
                accounts.setdefault(account.event, []).append((test.name, account))
        for event, of_event in accounts.items():
            found.setdefault(event, []).append(_cell_flow(cell, event, of_event))
    return [
        EventFlow(ledger.total(event, (flow.account for flow in cells)), tuple(cells))
        for event, cells in found.items()
    ]


def _cell_flow(cell: CellResult, event: str, tests: Sequence[tuple[str, Account]]) -> CellFlow:
    off = [(name, account.off) for name, account in tests if not account.ok]
    return CellFlow(cell, ledger.total(event, (account for _, account in tests)), tuple(off))
