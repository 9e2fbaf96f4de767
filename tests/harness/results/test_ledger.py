"""Ledgers in results.json: which equation does not hold, and by how much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.results.ledger import Account, equation, total
from harness.results.model import LedgerRow, Lost

COUNT = st.integers(0, 10**9)


@st.composite
def rows(draw: st.DrawFn) -> LedgerRow:
    """Rows that add up."""
    matched, unmatched, rejected, discarded = (draw(COUNT) for _ in range(4))
    lost = Lost(
        ring_full=draw(COUNT), oversize=draw(COUNT), program_misses=draw(COUNT), read_errors=draw(COUNT)
    )
    sum_lost = lost.ring_full + lost.oversize + lost.program_misses + lost.read_errors
    return LedgerRow(
        generated=matched + unmatched + rejected + discarded + sum_lost,
        delivered=matched + unmatched,
        matched=matched,
        unmatched=unmatched,
        approver_rejected=rejected,
        discarded=discarded,
        lost=lost,
    )


@given(rows())
def test_a_row_that_adds_up_has_no_finding(row: LedgerRow) -> None:
    account = Account("open", row)
    assert account.ok
    assert account.off == ""


@given(rows(), st.integers(1, 10**6))
def test_a_row_that_is_off_names_the_equation_and_the_difference(row: LedgerRow, amount: int) -> None:
    more = Account("open", row.model_copy(update={"generated": row.generated + amount}))
    assert more.off == f"{amount:,} of generated unaccounted for"
    more = Account("open", row.model_copy(update={"matched": row.matched + amount}))
    assert more.off == f"{amount:,} more than delivered"


@given(st.lists(rows(), max_size=5))
def test_a_sum_of_rows_that_add_up_adds_up(listed: list[LedgerRow]) -> None:
    account = total("open", listed)
    assert account.ok
    assert account.row.generated == sum(row.generated for row in listed)


def test_an_account_in_one_line() -> None:
    """Counters of 0 are left out; the reasons of losses are listed."""
    row = LedgerRow(generated=1009, delivered=17, matched=17, approver_rejected=590, discarded=400)
    assert equation(Account("open", row)) == "1,009 = 17 matched + 590 rejected by approvers + 400 discarded"
    lost = LedgerRow(generated=5, lost=Lost(ring_full=5))
    assert equation(Account("open", lost)) == "5 = 5 lost: ring full"
    assert equation(Account("open", LedgerRow())) == "0 = 0"
