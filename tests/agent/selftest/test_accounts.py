"""The ledger's arithmetic where the kernel counts more than ours."""

from __future__ import annotations

import pytest

from agent.ledger import Account
from agent.selftest import accounts


@pytest.mark.parametrize(
    ("made", "seen", "misses", "ours"),
    [(7, 7, 0, 0), (7, 6, 1, 1), (7, 7, 3, 0), (7, 5, 3, 2), (7, 5, 1, 1), (7, 9, 1, 0)],
)
def test_of_the_kernels_misses_ours_are_those_that_our_events_lack(
    made: int, seen: int, misses: int, ours: int
) -> None:
    """No more than that, so that one event too few or too many still is a leak."""
    account = accounts.own_misses(made, Account(seen=seen, program_misses=misses))
    assert account.program_misses == ours
    assert accounts.identities(made, account)[0].holds is (made - misses <= seen <= made)
