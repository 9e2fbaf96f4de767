"""Results that expectations.yaml names, and complaints of the kernel that it allows."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.console.complaints import Found
from harness.errors import ConfigError
from harness.plan.cells import Cell
from harness.results import expectations
from harness.results.expectations import Expectations
from harness.results.model import Attempt, CellReport, Splat, TestResult
from harness.results.verdict import Verdict
from harness.run import fake
from harness.run.judge import MOST_SPLATS, as_splats, splat_of, with_log

KNOWN = """
expected_failures:
  - test: truth.*
    when: {since: "5.10", before: "6.1", capability: {lsm: silent}}
    reason: attaches and never fires
    link: a page
    until: 2026-12-31
"""
SPLATS = """
allowed_splats:
  - splat: perf_thing
    when: {before: "6.1"}
    reason: a bug of that kernel
    link: a page
    until: 2026-12-31
"""
SPLAT = Splat(kind="warning", line="WARNING: at events/core.c:13", fingerprint="warning: perf_thing < a < b")
PASSED = TestResult(name="truth.open", verdict=Verdict.PASS)
BEFORE, AFTER = datetime.date(2026, 12, 31), datetime.date(2027, 1, 1)


def _known(tmp_path: Path, text: str = KNOWN) -> Expectations:
    path = tmp_path / "expectations.yaml"
    path.write_text(text)
    return expectations.load(path)


@pytest.mark.parametrize(
    ("verdict", "lsm", "day", "seen"),
    [
        ("FAIL", "silent", BEFORE, "XFAIL"),
        ("PASS", "silent", BEFORE, "XPASS"),
        ("FAIL", "silent", AFTER, "FAIL"),
        ("PASS", "silent", AFTER, "XPASS"),
        ("FAIL", "fires", BEFORE, "FAIL"),
        ("CRASH", "silent", BEFORE, "CRASH"),
    ],
)
def test_expected_failures(
    tmp_path: Path, cell: Cell, verdict: str, lsm: str, day: datetime.date, seen: str
) -> None:
    report = CellReport(id=cell.id, capabilities={"lsm": lsm})
    result = TestResult(name="truth.open", verdict=Verdict(verdict), reason="because")
    judged = expectations.apply(_known(tmp_path), cell, report, result, day)
    assert judged.verdict == seen
    assert judged.reason


@pytest.mark.parametrize(("allowed", "seen"), [("", "FAIL"), ("a bug of that kernel", "XFAIL")])
def test_an_expected_failure_hides_no_complaint_of_the_kernel(
    tmp_path: Path, cell: Cell, allowed: str, seen: str
) -> None:
    """A test that fails as expected, while the kernel complained, fails unless the complaint is allowed."""
    splat = SPLAT.model_copy(update={"allowed": allowed})
    result = TestResult(name="truth.open", verdict=Verdict.FAIL, reason="because", splats=(splat,))
    report = CellReport(id=cell.id, capabilities={"lsm": "silent"})
    judged = expectations.apply(_known(tmp_path), cell, report, result, BEFORE)
    assert judged.verdict == seen
    assert "because" in judged.reason


def test_an_expectation_without_a_match_is_reported(tmp_path: Path, cell: Cell) -> None:
    known = _known(tmp_path, KNOWN + SPLATS)
    judged = [(cell, CellReport(id=cell.id), PASSED)]
    assert expectations.unmatched(known, judged) == [
        "expectations.yaml: truth.* (attaches and never fires) matches no test of this run",
        "expectations.yaml: the complaint 'perf_thing' (a bug of that kernel) did not occur in this run",
    ]
    heard = CellReport(id=cell.id, capabilities={"lsm": "silent"}, splats=(SPLAT,))
    assert expectations.unmatched(known, [(cell, heard, PASSED)]) == []


def test_an_expectation_of_a_test_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    """With the closest name; a glob must match a test."""
    known = _known(tmp_path, KNOWN.replace("truth.*", "[truth.opne, 'truth.*']"))
    assert expectations.unknown(known, ["truth.open", "truth.unlink"]) == [
        "expectations.yaml: truth.opne: no such test (did you mean 'truth.open'?)"
    ]


def test_an_invalid_date_is_reported_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expectations.yaml:7: expected_failures.until: .*date"):
        _known(tmp_path, KNOWN.replace("2026-12-31", "soon"))


@pytest.mark.parametrize(
    ("series", "day", "allowed"), [("5.10", BEFORE, True), ("5.10", AFTER, False), ("6.1", BEFORE, False)]
)
def test_a_complaint_is_allowed_only_on_its_kernel_and_until_its_date(
    tmp_path: Path, cell: Cell, series: str, day: datetime.date, allowed: bool
) -> None:
    kernel = cell.kernel.model_copy(update={"series": series})
    there = cell.model_copy(update={"kernel": kernel})
    known = _known(tmp_path, SPLATS)
    why = expectations.allowed(known, there, CellReport(id=cell.id), SPLAT, day)
    assert bool(why) == allowed
    assert not allowed or why == "a bug of that kernel (a page), until 2026-12-31"


def test_allowed_complaints_hide_no_other() -> None:
    """However many they are; of each kind a limited number is reported."""
    loop = [Found("warning", f"WARNING: known {number}") for number in range(2 * MOST_SPLATS)]
    new = [Found("KASAN", f"BUG: KASAN: {number}") for number in range(2 * MOST_SPLATS)]
    splats = as_splats([*loop, *new], lambda splat: "known" if "known" in splat.line else "")
    assert [splat.kind for splat in splats] == ["warning"] * MOST_SPLATS + ["KASAN"] * MOST_SPLATS
    assert splat_of(splats) == Attempt(verdict=Verdict.SPLAT, reason="BUG: KASAN: 0")


def test_an_allowed_complaint_leaves_a_pass_and_is_reported() -> None:
    log = [
        f"[1.0] agent selftest: begin {PASSED.name}",
        *fake.SPLAT,
        f"[1.0] agent selftest: end {PASSED.name}",
    ]
    log = [line.replace("[1.0]", "[1.000000]") for line in log]
    assert with_log(PASSED, log, lambda _splat: "").verdict == "SPLAT"
    allowed = with_log(PASSED, log, lambda _splat: "known")
    assert (allowed.verdict, allowed.splats[0].allowed) == ("PASS", "known")
    assert with_log(PASSED, log[:-1], lambda _splat: "known").verdict == "FAIL"
