"""Evidence is complete or visibly cut; identities find lost events; the summary fits a screen."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from agent.events.model import EventType
from agent.ledger import Account
from agent.selftest import summary
from agent.selftest.accounts import identities, row, since
from agent.selftest.evidence import Evidence, plain
from agent.selftest.protocol import Ran

COUNTS = st.integers(0, 10**6)


@st.composite
def honest(draw: st.DrawFn) -> tuple[int, Account]:
    """Counters of generator and agent that agree."""
    rejected, discarded, matched, unmatched, full, oversize, missed, unread = (draw(COUNTS) for _ in range(8))
    delivered = matched + unmatched
    submitted = delivered + unread
    seen = rejected + discarded + submitted + full + oversize
    kernel = (seen, rejected, discarded, submitted, full, oversize, missed)
    return seen + missed, Account(*kernel, delivered, matched, unmatched, unread)


@given(honest())
def test_a_correct_ledger_closes(witnesses: tuple[int, Account]) -> None:
    generated, account = witnesses
    assert all(identity.holds for identity in identities(generated, account))


@given(honest(), st.sampled_from(Account._fields))
def test_one_count_that_is_off_is_found(witnesses: tuple[int, Account], field: str) -> None:
    generated, account = witnesses
    off = account._replace(**{field: getattr(account, field) + 1})
    assert not all(identity.holds for identity in identities(generated, off))


@given(honest(), honest())
def test_accounts_are_differences(before: tuple[int, Account], spent: tuple[int, Account]) -> None:
    now = Account(*(then + more for then, more in zip(before[1], spent[1], strict=True)))
    assert since({EventType.OPEN: now}, {EventType.OPEN: before[1]}) == {EventType.OPEN: spent[1]}


def test_a_failure_has_its_context() -> None:
    evidence = Evidence()
    evidence.context["script"] = ["unlink /x"]
    assert evidence.equal("arrivals", 1, 1)
    assert not evidence.equal("path", b"/a\n", b"/b\xff")
    held, failed = evidence.assertions
    assert "evidence" not in held
    assert failed["evidence"] == {"script": ["unlink /x"]}
    assert evidence.reason() == "path: expected /a\\n, got /b\\xff"


def test_any_value_can_be_written_as_json() -> None:
    odd = {EventType.OPEN: [b"\x00", {1: (None, 2.5)}, frozenset({3})], b"k": object}
    assert json.loads(json.dumps(plain(odd)))["open"][0] == "\\x00"


def test_long_lists_are_cut_visibly() -> None:
    assert plain(list(range(100)))[-1] == "... and 60 more"
    assert plain({n: n for n in range(100)})["..."] == "and 60 more"


def all_matched(count: int) -> dict[str, object]:
    return row(count, Account(seen=count, submitted=count, delivered=count, matched=count), 0)


LOADED = {
    "coverage": {"open": "full"},
    "hooks": [{"event": "open.enter", "point": "file_open", "type": "lsm", "state": "attached"}] * 12,
}


def test_the_summary_of_many_scenarios_fits_a_screen() -> None:
    results = [
        Ran(0, f"family{n % 6}.case{n}", "PASS", ledger={"open": all_matched(1_000_003)}) for n in range(80)
    ]
    results.append(Ran(0, "truth.open", "FAIL", "path: expected /a, got " + "/b" * 99, duration_s=1.25))
    lines = summary.report(results, LOADED).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    assert "FAIL  truth.open                 1.25 s" in lines
    assert any(line.strip().startswith("path: expected /a, got /b/b") for line in lines)
    assert lines[0] == "full lsm: open"
    assert lines[-1].startswith("81 scenarios: 80 PASS, 1 FAIL")


def test_the_summary_shows_each_of_a_few_scenarios() -> None:
    report = summary.report(
        [Ran(0, "truth.open", "PASS", ledger={"open": all_matched(7)}, duration_s=0.5)], LOADED
    )
    assert "PASS  truth.open                 0.50 s  An open that a rule matches" in report
