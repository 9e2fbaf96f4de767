"""Checks the identities of the ledger, and computes the differences that reports show.

generated = delivered + approver_rejected + discarded + lost
delivered = matched + unmatched
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.results.model import LedgerRow, Lost

LOSSES = ("ring_full", "oversize", "program_misses", "read_errors")


@dataclass(frozen=True)
class Account:
    """The events of one type; counts are events."""

    event: str
    row: LedgerRow

    @property
    def lost(self) -> int:
        """All lost events."""
        return sum(getattr(self.row.lost, name) for name in LOSSES)

    @property
    def losses(self) -> list[tuple[str, int]]:
        """The places that lost events, each with the number of them."""
        counts = [(name.replace("_", " "), getattr(self.row.lost, name)) for name in LOSSES]
        return [entry for entry in counts if entry[1]]

    @property
    def kernel_stopped(self) -> int:
        """Events that the filters of the kernel stage dropped on purpose."""
        return self.row.approver_rejected + self.row.discarded

    @property
    def unaccounted(self) -> int:
        """Generated events minus all events that are accounted for; negative if more are accounted for."""
        return self.row.generated - self.row.delivered - self.kernel_stopped - self.lost

    @property
    def unjudged(self) -> int:
        """Delivered events minus matched and unmatched ones; negative if there are more of these."""
        return self.row.delivered - self.row.matched - self.row.unmatched

    @property
    def ok(self) -> bool:
        """Whether both identities hold."""
        return self.unaccounted == 0 and self.unjudged == 0

    @property
    def off(self) -> str:
        """The identities that do not hold, and by how much; "" if both hold."""
        parts = []
        if self.unaccounted:
            parts.append(_difference("generated", self.unaccounted, "unaccounted for"))
        if self.unjudged:
            parts.append(_difference("delivered", self.unjudged, "neither matched nor unmatched"))
        return "; ".join(parts)


def equation(account: Account) -> str:
    """An account in one line, without zeros: `109 = 6 matched + 103 rejected by approvers`."""
    row = account.row
    named = (
        (row.matched, "matched"),
        (row.unmatched, "unmatched"),
        (row.approver_rejected, "rejected by approvers"),
        (row.discarded, "discarded"),
        *((count, f"lost: {place}") for place, count in account.losses),
    )
    parts = [f"{count:,} {name}" for count, name in named if count]
    return f"{row.generated:,} = {' + '.join(parts) or '0'}"


def accounts(ledger: Mapping[str, LedgerRow]) -> list[Account]:
    """One account for each event type, in the order of the ledger."""
    return [Account(event, row) for event, row in ledger.items()]


def total(event: str, rows: Iterable[LedgerRow]) -> Account:
    """The sum of `rows` as one account."""
    listed = list(rows)
    lost = {name: sum(getattr(row.lost, name) for row in listed) for name in LOSSES}
    names = ("generated", "delivered", "matched", "unmatched", "approver_rejected", "discarded")
    counts = {name: sum(getattr(row, name) for row in listed) for name in names}
    return Account(event, LedgerRow(lost=Lost(**lost), **counts))


def _difference(whole: str, amount: int, missing: str) -> str:
    if amount > 0:
        return f"{amount:,} of {whole} {missing}"
    return f"{-amount:,} more than {whole}"
