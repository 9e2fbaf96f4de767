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
    account = Account(seen=seen, program_misses=misses)
    others = accounts.misses_of_others(made, account, misses)
    assert misses - others == ours
    own = account._replace(program_misses=ours)
    assert accounts.identities(made, own)[0].holds is (made - misses <= seen <= made)


def test_only_programs_that_the_kernel_skipped_are_misses_of_others() -> None:
    """The kernel stage counts the other misses, and only for the generator's processes."""
    account = Account(seen=7, program_misses=5)
    assert accounts.misses_of_others(7, account, 3) == 3
    assert accounts.misses_of_others(7, account, 0) == 0


@pytest.mark.parametrize(("made", "most"), [(1, 7), (14, 7), (101, 50)])
def test_the_kernel_skips_half_of_many_events_at_most(made: int, most: int) -> None:
    assert accounts.most_skipped(made) == most
