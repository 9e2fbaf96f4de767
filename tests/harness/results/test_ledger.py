"""Ledgers in results.json: which equation does not hold, and by how much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.results.ledger import Account, accounts, equation, total
from harness.results.model import LedgerRow, Lost, TestResult
from harness.results.verdict import Verdict

COUNT = st.integers(0, 10**9)


@st.composite
def balanced(draw: st.DrawFn) -> Account:
    """Accounts that add up."""
    matched, unmatched, rejected, discarded, *lost = (draw(COUNT) for _ in range(8))
    delivered = matched + unmatched
    generated = delivered + rejected + discarded + sum(lost)
    return Account("open", generated, delivered, matched, unmatched, rejected, discarded, *lost)


@given(balanced())
def test_an_account_that_adds_up_has_no_finding(account: Account) -> None:
    assert account.ok
    assert account.off == ""


@given(balanced(), st.integers(1, 10**6))
def test_an_account_that_is_off_names_the_equation_and_the_difference(account: Account, amount: int) -> None:
    more = account._replace(generated=account.generated + amount)
    assert more.off == f"{amount:,} of generated unaccounted for"
    more = account._replace(matched=account.matched + amount)
    assert more.off == f"{amount:,} more than delivered"


@given(st.lists(balanced(), max_size=5))
def test_a_sum_of_accounts_that_add_up_adds_up(listed: list[Account]) -> None:
    account = total("open", listed)
    assert account.ok
    assert account.generated == sum(each.generated for each in listed)
    assert account.lost == sum(each.lost for each in listed)


def test_an_account_has_the_counts_of_its_row() -> None:
    """Packed or not, also if the results leave out counts of 0."""
    lost = Lost(ring_full=7, oversize=8, program_misses=9, read_errors=10)
    row = LedgerRow(
        generated=1, delivered=2, matched=3, unmatched=4, approver_rejected=5, discarded=6, lost=lost
    )
    packed = TestResult(name="t", verdict=Verdict.PASS, ledger={"open": row}).ledger
    brief = TestResult.model_validate_json(
        '{"name": "t", "verdict": "PASS", "ledger": {"open": {"matched": 3}}}'
    )
    assert accounts(packed) == accounts({"open": row}) == [Account("open", *range(1, 11))]
    assert accounts(brief.ledger) == [Account("open", matched=3)]


def test_an_account_in_one_line() -> None:
    """Counters of 0 are left out; the reasons of losses are listed."""
    account = Account("open", 1009, delivered=17, matched=17, approver_rejected=590, discarded=400)
    assert equation(account) == "1,009 = 17 matched + 590 rejected by approvers + 400 discarded"
    assert equation(Account("open", generated=5, ring_full=5)) == "5 = 5 lost: ring full"
    assert equation(Account("open")) == "0 = 0"
