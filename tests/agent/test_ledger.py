"""The agent's ledger: which sums must be equal, and which loss a difference points to."""

from __future__ import annotations

import pytest

from agent.events.model import EventType
from agent.kernel.maps import KernelCounts
from agent.ledger import Account, Ledger, identities, misses


def test_a_correct_ledger_closes() -> None:
    ledger = Ledger()
    for matched in (True, False, False):
        ledger.judge(EventType.OPEN, matched)
    counts = KernelCounts(seen=10, approver_rejected=4, discarded=1, submitted=3, ring_full=1, no_slot=1)
    account = ledger.accounts({EventType.OPEN: counts}, {EventType.OPEN: 2})[EventType.OPEN]
    assert all(identity.holds for identity in identities(account))
    assert (account.program_misses, account.lost) == (3, 4)


@pytest.mark.parametrize("reason", ["no_slot", "abandoned", "unentered"])
def test_an_event_without_a_record_is_lost(reason: str) -> None:
    """Whichever reason the kernel stage counts, the ledger closes."""
    counts = KernelCounts(seen=reason != "unentered", **{reason: 1})
    account = Ledger().accounts({EventType.OPEN: counts}, {})[EventType.OPEN]
    assert all(identity.holds for identity in identities(account))
    assert (account.seen, account.program_misses, account.lost) == (0, 1, 1)


def test_a_difference_names_its_place() -> None:
    held = identities(Account(seen=5, submitted=4, delivered=4, matched=4))
    assert [str(one) for one in held if not one.holds] == [
        "seen = rejected + discarded + submitted + ring full + oversize: 5 != 4"
    ]


def test_misses_of_the_programs_that_blind() -> None:
    skipped = {"open.enter": 1, "open_root.enter": 2, "open.exit": 4, "parent.given": 8}
    assert misses(skipped) == {EventType.OPEN: 3}
