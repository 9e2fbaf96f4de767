"""The final table on terminals of any width."""

from __future__ import annotations

import io
import re
from typing import Literal

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.report import summary
from harness.report.lines import Lines
from harness.report.shared.verdicts import tally
from harness.report.terminal import print_results
from harness.results.model import Attempt, Results, TestResult
from harness.results.verdict import Verdict
from harness.run.judge import as_result
from tests.harness.report.made_up import a_cell, a_run, a_test, every_verdict
from tests.harness.report.test_html import HOSTILE, hostile_run


def printed(width: int, *, colours: bool = False) -> str:
    out = io.StringIO()
    system: Literal["standard"] | None = "standard" if colours else None
    console = Console(file=out, width=width, force_terminal=True, color_system=system)
    print_results(console, every_verdict(), "out/latest")
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 40, 60, 64, 80, 99, 100, 120, 200])
def test_the_table_fits(width: int) -> None:
    """No row is wider than the terminal, and every cell has a row with its verdict."""
    found = every_verdict()
    rows = printed(width).splitlines()
    table = rows[: next(n for n, row in enumerate(rows) if re.match(r"\S+: ", row))]
    assert max(map(cell_len, table)) <= width
    for cell in found.cells:
        if width >= 60:
            assert any(cell.id in row and cell.verdict in row for row in table), cell.id


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (40, ["cell", "verdict", "ended", "in"]),
        (80, ["cell", "verdict", "boot", "load", "tests", "ended", "in"]),
        (120, ["kernel", "cell", "verdict", "boot", "load", "tests", "ended", "in"]),
    ],
)
def test_the_columns_that_fit(width: int, heads: list[str]) -> None:
    assert printed(width).splitlines()[0].split() == heads


def test_a_verdict_is_a_word_and_a_sign() -> None:
    """The text is the same without colours."""
    plain = printed(120)
    assert "✗ FAIL" in plain
    assert "\x1b" not in plain
    assert "\x1b" in printed(120, colours=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_guest_cannot_write_on_the_terminal(text: str) -> None:
    out = io.StringIO()
    print_results(Console(file=out, width=80), hostile_run(text), "out/latest")
    assert not {"\x1b", "\x9b", "\x07", "\x00", "\u202e"} & set(out.getvalue())


def test_a_failure_is_followed_by_its_evidence() -> None:
    """Rule, line of the script, hook and row of the ledger, if the guest reported them."""
    evidence = {
        "script": ["unlink /x"],
        "rule": 'gone: unlink.file.path == "/x"',
        "line": ["1: unlink /x: returned 0"],
        "hook": ["unlink.exit by fexit at do_unlinkat: attached"],
        "ledger": {"unlink": "generated 1, seen 1, approver_rejected 1"},
    }
    failed = {"name": "events of gone", "ok": False, "expected": 1, "got": 0, "evidence": evidence}
    unknown = {"name": "sentinels", "ok": False, "expected": 1, "got": 0, "evidence": {"script": ["x"]}}
    result = TestResult.model_validate(
        {
            "name": "truth.unlink",
            "verdict": "FAIL",
            "reason": "events of gone",
            "assertions": [unknown, failed],
        }
    )
    out = io.StringIO()
    Lines(Console(file=out, width=200)).ended("6.1-auto", result)
    assert [line.strip() for line in out.getvalue().splitlines()[1:]] == [
        'rule: gone: unlink.file.path == "/x"',
        "line: 1: unlink /x: returned 0",
        "hook: unlink.exit by fexit at do_unlinkat: attached",
        "ledger: unlink: generated 1, seen 1, approver_rejected 1",
    ]


def test_in_a_pipe_nothing_is_cut_or_folded() -> None:
    """Each cell is one row with all its columns, whatever width rich assumes without a terminal."""
    out = io.StringIO()
    print_results(Console(file=out, width=30), every_verdict(), "out/latest")
    rows = out.getvalue().splitlines()
    assert rows[0].split()[0] == "kernel"
    for cell in every_verdict().cells:
        assert any(cell.kernel.release in row and cell.id in row and tally(cell) in row for row in rows)


@pytest.mark.parametrize(("shared", "lines"), [(0, 0), (1, 0), (2, 1), (8, 1)])
def test_a_cause_that_tests_share_is_below_the_table_once(shared: int, lines: int) -> None:
    cause = Attempt(verdict=Verdict.NOT_RUN, reason="the machine was given up")
    tests = [as_result(f"truth.{number}", cause) for number in range(shared)]
    tests += [TestResult(name=f"loss.{number}", verdict=Verdict.PASS) for number in range(8 - shared)]
    results = every_verdict()
    cell = results.cells[0].model_copy(update={"tests": tuple(tests)})
    out = io.StringIO()
    print_results(Console(file=out), results.model_copy(update={"cells": (cell,)}), "out/latest")
    assert out.getvalue().count(f"{cell.id}: {shared} tests … NOT_RUN: the machine was given up") == lines


def _last_line(results: Results) -> str:
    out = io.StringIO()
    print_results(Console(file=out, width=100), results, "out")
    return out.getvalue().splitlines()[-1]


def test_a_run_of_skips_is_not_called_as_expected() -> None:
    """The last line of the terminal and the report use the sentence of the summary."""
    skipped = a_run(a_cell("6.1", tests=(a_test("a.b", Verdict.SKIP),)))
    assert _last_line(skipped).startswith("Nothing failed, and nothing passed. ")
    assert _last_line(a_run(a_cell("6.1", tests=(a_test("a.b"),)))).startswith("Everything as expected. ")


def test_an_exit_code_outside_of_the_contract_is_no_success() -> None:
    run = a_run(a_cell("6.1", tests=(a_test("a.b"),)))
    odd = run.model_copy(update={"run": run.run.model_copy(update={"exit_code": 77})})
    assert _last_line(odd).startswith("The run ended with an unknown exit code. ")
    assert summary.render(odd).startswith("## ✗ The run ended with an unknown exit code.")
