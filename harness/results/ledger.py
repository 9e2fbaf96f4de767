"""Checks the identities of the ledger, and computes the differences that reports show.

generated = delivered + approver_rejected + discarded + lost
delivered = matched + unmatched
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from harness.results import packed
from harness.results.model import LedgerRow

LOSSES = ("ring_full", "oversize", "program_misses", "read_errors")


class Account(NamedTuple):
    """The events of one type; counts are events.

    A large run has hundreds of thousands of them, of which models would take most of the time of a report.
    """

    event: str
    generated: int = 0
    delivered: int = 0
    matched: int = 0
    unmatched: int = 0
    approver_rejected: int = 0
    discarded: int = 0
    ring_full: int = 0
    oversize: int = 0
    program_misses: int = 0
    read_errors: int = 0

    @property
    def lost(self) -> int:
        """All lost events."""
        return self.ring_full + self.oversize + self.program_misses + self.read_errors

    @property
    def losses(self) -> list[tuple[str, int]]:
        """The places that lost events, each with the number of them."""
        counts = [(name.replace("_", " "), getattr(self, name)) for name in LOSSES]
        return [entry for entry in counts if entry[1]]

    @property
    def kernel_stopped(self) -> int:
        """Events that the filters of the kernel stage dropped on purpose."""
        return self.approver_rejected + self.discarded

    @property
    def unaccounted(self) -> int:
        """Generated events minus all events that are accounted for; negative if more are accounted for."""
        return self.generated - self.delivered - self.kernel_stopped - self.lost

    @property
    def unjudged(self) -> int:
        """Delivered events minus matched and unmatched ones; negative if there are more of these."""
        return self.delivered - self.matched - self.unmatched

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
    named = (
        (account.matched, "matched"),
        (account.unmatched, "unmatched"),
        (account.approver_rejected, "rejected by approvers"),
        (account.discarded, "discarded"),
        *((count, f"lost: {place}") for place, count in account.losses),
    )
    parts = [f"{count:,} {name}" for count, name in named if count]
    return f"{account.generated:,} = {' + '.join(parts) or '0'}"


def accounts(ledger: Mapping[str, LedgerRow]) -> list[Account]:
    """One account for each event type, in the order of the ledger."""
    return [_account(event, row) for event, row in packed.plain(ledger).items()]


def total(event: str, accounts: Iterable[Account]) -> Account:
    """The sum of `accounts`, all of which are of one event type."""
    columns = list(zip(*accounts, strict=True))[1:]
    return Account(event, *map(sum, columns))


def _account(event: str, row: Mapping[str, Any]) -> Account:
    lost = row.get("lost", {})
    return Account(
        event,
        row.get("generated", 0),
        row.get("delivered", 0),
        row.get("matched", 0),
        row.get("unmatched", 0),
        row.get("approver_rejected", 0),
        row.get("discarded", 0),
        lost.get("ring_full", 0),
        lost.get("oversize", 0),
        lost.get("program_misses", 0),
        lost.get("read_errors", 0),
    )


def _difference(whole: str, amount: int, missing: str) -> str:
    if amount > 0:
        return f"{amount:,} of {whole} {missing}"
    return f"{-amount:,} more than {whole}"
