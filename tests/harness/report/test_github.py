"""Annotations and summaries for GitHub."""

from __future__ import annotations

import io

import pytest

from harness.report import github
from harness.results.verdict import Verdict
from tests.harness.report.made_up import TESTS, a_cell, a_run, a_test, every_verdict


def test_the_tenth_annotation_counts_the_rest() -> None:
    """GitHub shows ten annotations for each step: the tenth has the number of the others."""
    tests = tuple(a_test(f"made.up{n}", Verdict.FAIL, f"{chr(97 + n)} is wrong") for n in range(14))
    lines = github.lines(a_run(a_cell("6.1", tests=tests)))
    assert len(lines) == 10
    assert lines[-1] == "::error::and 5 more, in summary.md and report.html"


def test_the_same_failure_in_many_cells_is_one_line() -> None:
    """Six kernels that fail alike leave room for eight other findings."""
    found = github.lines(every_verdict())
    (line,) = [line for line in found if "discarders.parent" in line]
    assert line.startswith("::error title=FAIL discarders.parent in 6.1-auto%2C 6.1-kprobe::")


def test_what_ends_a_whole_cell_is_one_line() -> None:
    tests = tuple(a_test(name, Verdict.FAIL, "the object does not load") for name in TESTS)
    (line,) = github.lines(a_run(a_cell("6.1", tests=tests)))
    assert line == "::error title=FAIL 8 tests in 6.1-auto::the object does not load"


def test_the_worst_comes_first() -> None:
    assert github.lines(every_verdict())[0].startswith("::error title=CRASH ")


def test_a_run_without_failures_has_no_annotations() -> None:
    assert github.lines(a_run(a_cell("6.1"))) == []


def test_a_guest_cannot_give_commands() -> None:
    """Line ends, per cent signs and control characters of a reason stay within its one line."""
    reason = "50%\r\n::set-env name=PATH::/tmp\x1b[2J\udc80"
    (line,) = github.lines(a_run(a_cell("6.1", tests=(a_test("truth.open", Verdict.FAIL, reason),))))
    assert line.endswith("::50%25\\x0d%0A::set-env name=PATH::/tmp\\x1b[2J\\xdc80")
    assert "\n" not in line
    assert "\r" not in line


@pytest.mark.parametrize(
    ("value", "forced", "shows"), [("true", False, True), ("", False, False), ("", True, True)]
)
def test_the_summary_is_appended_to_githubs_file(
    monkeypatch: pytest.MonkeyPatch, value: str, forced: bool, shows: bool
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", value)
    out = io.StringIO()
    github.show(every_verdict(), out, forced=forced)
    assert bool(out.getvalue()) is shows
