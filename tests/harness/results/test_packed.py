"""Packed rows: they read like the tuple or dictionary that was packed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.results.model import Assertion, LedgerRow, TestResult
from harness.results.packed import failed
from harness.results.verdict import Verdict

ROWS = (
    Assertion(name="a", ok=True, expected={"x": [1, "ü"]}, got=None),
    Assertion.model_validate({"name": "b", "ok": False, "evidence": {"ok": False}}),
)
LEDGER = {"open": LedgerRow(generated=3), "close": LedgerRow()}


def a_test() -> TestResult:
    return TestResult(name="t", verdict=Verdict.FAIL, reason="r", assertions=ROWS, ledger=LEDGER)


def test_rows_read_like_a_tuple() -> None:
    rows = a_test().assertions
    assert rows is not ROWS
    assert rows == ROWS
    assert list(rows) == list(ROWS)
    assert (len(rows), rows[1], list(rows[:1])) == (2, ROWS[1], [ROWS[0]])
    assert list(rows) != [ROWS[0]]


def test_a_table_reads_like_a_dictionary() -> None:
    ledger = a_test().ledger
    assert ledger == LEDGER
    assert (len(ledger), list(ledger), "mkdir" in ledger) == (2, [*LEDGER], False)
    assert ledger["open"].generated == 3
    assert dict(ledger.items()) == LEDGER
    assert ledger != {"open": LedgerRow()}
    with pytest.raises(KeyError):
        ledger["mkdir"]


def test_unknown_keys_of_a_guest_are_kept() -> None:
    """Through JSON and back, twice."""
    again = a_test()
    for _ in range(2):
        again = TestResult.model_validate_json(again.model_dump_json())
    assert again == a_test()
    assert again.assertions[1].model_extra == {"evidence": {"ok": False}}


def test_failed_rows_are_counted() -> None:
    """Not a key `ok` inside of a value."""
    again = TestResult.model_validate_json(a_test().model_dump_json())
    assert [failed(rows) for rows in (ROWS, a_test().assertions, again.assertions)] == [1, 1, 1]


def test_no_rows_are_false() -> None:
    empty = TestResult(name="t", verdict=Verdict.PASS)
    given = TestResult.model_validate_json(empty.model_dump_json())
    assert not any((empty.assertions, empty.ledger, given.assertions, given.ledger))
    assert given == empty


@pytest.mark.parametrize(
    ("rows", "where"),
    [
        ('"assertions":[{"name":"a"}]', "assertions.0.ok"),
        ('"assertions":{}', "assertions"),
        ('"ledger":{"open":{"generated":-1}}', "ledger.open.generated"),
        ('"ledger":{"open":{"lost":{"oversize":"many"}}}', "ledger.open.lost.oversize"),
    ],
)
def test_rows_are_validated_when_they_are_read(rows: str, where: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TestResult.model_validate_json(f'{{"name":"t","verdict":"PASS",{rows}}}')
    assert ".".join(map(str, refused.value.errors()[0]["loc"])) == where
