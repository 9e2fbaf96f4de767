"""Verdicts: their order, and the exit code of a run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.results.verdict import Verdict, run_exit_code, worst

_verdicts = st.lists(st.sampled_from(list(Verdict)))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("PASS PASS", 0),
        ("PASS SKIP XFAIL", 0),
        ("PASS FAIL", 1),
        ("CRASH NOT_RUN INFRA", 1),
        ("XPASS", 1),
        ("FLAKY PASS", 1),
        ("SPLAT", 1),
        ("TIMEOUT BOOT_FAIL", 1),
        ("PASS INFRA", 3),
        ("BOOT_FAIL PASS", 3),
        ("PASS NOT_RUN", 4),
        ("INFRA NOT_RUN", 4),
        ("", 4),
    ],
)
def test_exit_codes(words: str, code: int) -> None:
    assert run_exit_code(Verdict(word) for word in words.split()) == code


@given(_verdicts, _verdicts)
def test_more_results_never_make_a_run_better(some: list[Verdict], more: list[Verdict]) -> None:
    assert not some or worst(some + more).badness >= worst(some).badness


@given(_verdicts)
def test_a_run_succeeds_only_if_there_are_results_and_all_are_expected(found: list[Verdict]) -> None:
    assert (run_exit_code(found) == 0) == (bool(found) and all(verdict.expected for verdict in found))


@given(_verdicts.filter(bool))
def test_a_failure_of_the_product_comes_before_the_infrastructure(found: list[Verdict]) -> None:
    product = any(verdict.exit_code == 1 for verdict in found)
    assert (run_exit_code(found) == 1) == product


def test_the_worst_of_nothing_is_not_a_pass() -> None:
    assert worst([]) is Verdict.NOT_RUN
