"""The ledger of a scenario: three witnesses count each event type, and the counts must be equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.events import EventType


class Account(NamedTuple):
    """Counts of one event type.

    The kernel side counts up to `program_misses`, in this order; the user side counts the rest. `seen` is
    what a hook was called for, inside the scope and not by the agent itself.
    """

    seen: int = 0
    approver_rejected: int = 0
    discarded: int = 0
    submitted: int = 0
    ring_full: int = 0
    oversize: int = 0
    program_misses: int = 0
    delivered: int = 0
    matched: int = 0
    unmatched: int = 0
    read_errors: int = 0

    @property
    def lost(self) -> int:
        """Events that nobody will ever see, wherever they went missing."""
        return self.ring_full + self.oversize + self.program_misses + self.read_errors

    def since(self, before: Account) -> Account:
        """What was counted after `before` was read."""
        return Account(*(now - then for now, then in zip(self, before, strict=True)))

    def row(self, generated: int) -> dict[str, Any]:
        """The ledger's row in results.json."""
        return {
            "generated": generated,
            "delivered": self.delivered,
            "matched": self.matched,
            "unmatched": self.unmatched,
            "approver_rejected": self.approver_rejected,
            "discarded": self.discarded,
            "lost": {
                "ring_full": self.ring_full,
                "oversize": self.oversize,
                "program_misses": self.program_misses,
                "read_errors": self.read_errors,
            },
        }


class Identity(NamedTuple):
    """Two sums that must be the same number, each from another witness."""

    says: str
    left: int
    right: int


def identities(generated: int, account: Account) -> tuple[Identity, ...]:
    """Every equality that holds when nothing is hidden; the first one that does not names the leak."""
    a = account
    return (
        Identity("generated = seen + program misses", generated, a.seen + a.program_misses),
        Identity(
            "seen = rejected + discarded + submitted + ring full + oversize",
            a.seen,
            a.approver_rejected + a.discarded + a.submitted + a.ring_full + a.oversize,
        ),
        Identity("submitted = delivered + read errors", a.submitted, a.delivered + a.read_errors),
        Identity("delivered = matched + unmatched", a.delivered, a.matched + a.unmatched),
        Identity(
            "generated = delivered + rejected + discarded + lost",
            generated,
            a.delivered + a.approver_rejected + a.discarded + a.lost,
        ),
    )


Accounts = Mapping[EventType, Account]


def since(now: Accounts, before: Accounts) -> dict[EventType, Account]:
    """The accounts of what happened between two readings."""
    return {kind: account.since(before.get(kind, Account())) for kind, account in now.items()}
