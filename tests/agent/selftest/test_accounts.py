"""The ledger, if the kernel also counts misses of other processes."""

from __future__ import annotations

import pytest

from agent.ledger import Account
from agent.selftest import accounts


@pytest.mark.parametrize(
    ("made", "seen", "misses", "ours"),
    [(7, 7, 0, 0), (7, 6, 1, 1), (7, 7, 3, 0), (7, 5, 3, 2), (7, 5, 1, 1), (7, 9, 1, 0)],
)
def test_own_misses_are_the_generated_events_that_were_not_seen(
    made: int, seen: int, misses: int, ours: int
) -> None:
    """Not more of them, so that one missing or repeated event is still found."""
    account = accounts.own_misses(made, Account(seen=seen, program_misses=misses))
    assert account.program_misses == ours
    assert accounts.identities(made, account)[0].holds is (made - misses <= seen <= made)
