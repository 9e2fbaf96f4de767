"""The output in the tutorial has the form that the programs print today."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from agent.selftest.catalogue import by_name
from harness.commands import doctor_checks
from harness.report.compare import text as compare_text
from harness.report.compare.changes import Kind
from harness.report.compare.comparison import compare
from harness.report.lines import line_of
from harness.report.shared.verdicts import SENTENCES
from harness.report.terminal import print_results
from harness.results.model import TestResult
from harness.results.verdict import Verdict
from tests import ROOT
from tests.campaigns.mutants.catalogue import MUTANTS
from tests.docs import pages
from tests.harness.report.made_up import a_cell, a_run, a_test

PAGE = (ROOT / "docs/tutorial.md").read_text()
PASTED = pages.blocks(PAGE, "text")
RUNS = [block for block in PASTED if "plan: " in block]
WORD = r"[^ ]+"


def shape(line: str) -> str:
    """Return a line with its numbers, dates and runs of blanks replaced."""
    return re.sub(r"\d+", "9", re.sub(r" +", " ", line)).strip()


def test_each_step_has_its_output() -> None:
    """Set-up, plan, two runs, a comparison, a command and an explanation."""
    assert len(RUNS) == 2
    assert len(PASTED) == 7
    assert "/home/" not in PAGE


@pytest.mark.parametrize("block", RUNS)
def test_lines_of_tests_have_the_printed_form(block: str) -> None:
    """Names are in the catalogue; verdicts and seconds are at their places."""
    found = re.findall(rf"^(6\.1-auto)  ({WORD})  . ([A-Z]+)  ([\d.]+) s(?:  (.*))?$", block, re.MULTILINE)
    assert len(found) >= 3
    for cell, name, verdict, seconds, reason in found:
        assert by_name(name), name
        result = TestResult(name=name, verdict=Verdict(verdict), reason=reason, duration_s=float(seconds))
        assert line_of(cell, result).plain in block


@pytest.mark.parametrize("block", RUNS)
def test_the_table_has_the_printed_form(block: str) -> None:
    """The same columns, and below them the final sentence."""
    out = io.StringIO()
    print_results(Console(file=out), a_run(a_cell("6.1")), "out")
    head = out.getvalue().splitlines()[0].split()
    assert [line.split() for line in block.splitlines() if line.startswith("kernel ")] == [head]
    last = block.splitlines()[-1]
    (code,) = (code for code, sentence in SENTENCES.items() if last.startswith(sentence))
    assert re.search(rf"[\d.]+ s, (tcg|kvm), exit {code}; out/", last)


def test_the_deliberate_fault_still_fits_the_code() -> None:
    """The changed line exists in the source, and a mutant with the same change is caught by a test."""
    assert "exit 0" in RUNS[0]
    assert "exit 1" in RUNS[1]
    old, new, file = re.findall(r"^sed -i 's/(.*)/(.*)/' (.*)$", PAGE, re.MULTILINE)[0]
    assert (ROOT / file).read_text().count(old) == 1
    (known,) = (mutant for mutant in MUTANTS if (mutant.file, mutant.old, mutant.new) == (file, old, new))
    assert all(f"{name}  ✗ FAIL" in RUNS[1] for name in known.caught_by if name.startswith("truth."))


def test_the_doctors_findings_are_those_printed() -> None:
    block = next(block for block in PASTED if block.startswith("ok "))
    names = [line[5:25].strip() for line in block.splitlines() if line[5:6].strip()]
    assert names == [check.name for check in doctor_checks.checks()]


def test_the_comparison_has_the_printed_form() -> None:
    """The headings and rows that `compare` writes for a test that newly fails."""
    block = next(block for block in PASTED if block.startswith("## "))
    before, after = (
        a_run(a_cell("6.1", tests=(a_test("truth.open", verdict),)))
        for verdict in (Verdict.PASS, Verdict.FAIL)
    )
    made = compare_text.to_markdown(compare(before, after)).splitlines()
    heads = [shape(line) for line in made if line.startswith(("###", "| cell"))]
    shapes = [shape(line) for line in block.splitlines()]
    assert all(head in shapes for head in heads)
    assert f"### {Kind.NEWLY_FAILING.capitalize()} (" in block
    assert "✗ The product regressed in" in block
