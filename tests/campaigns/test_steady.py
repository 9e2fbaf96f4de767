"""Tests of the campaign that repeats cells under load."""

from __future__ import annotations

from pathlib import Path

from harness.plan import checked
from harness.plan.matrix import Kernel
from harness.results.verdict import Verdict
from tests.campaigns import steady
from tests.harness.report.made_up import a_cell, a_test


def test_copies_are_a_matrix_with_each_kernel_so_often(tmp_path: Path) -> None:
    """Two kernels, three times each, with their sources and tests, in turn and under names of their own."""
    kernels = (
        Kernel(name="6.1", series="6.1", tests=("truth.*",)),
        Kernel(name="new", series="7.3", vcpus=2),
    )
    (tmp_path / "matrix.yaml").write_text(steady.copies(kernels, 3))
    copied = checked.load(tmp_path / "matrix.yaml").kernels
    assert [kernel.name for kernel in copied[:3]] == ["6.1-run1", "new-run1", "6.1-run2"]
    assert len(copied) == 6
    assert [(kernel.series, kernel.tests, kernel.vcpus) for kernel in copied[:2]] == [
        ("6.1", ("truth.*",), 1),
        ("7.3", (), 2),
    ]


def test_the_table_counts_runs_of_a_kernel_together_and_names_what_was_bad() -> None:
    """Three runs of two kernels are two rows, and the test that failed is listed with its reason."""
    failed = a_test("truth.open", Verdict.FAIL, reason="expected 1, got 0")
    cells = [a_cell("6.1-run1"), a_cell("6.1-run2", tests=(failed,)), a_cell("7.3-run1")]
    lines = steady.table(cells)
    assert [line.split("|")[1:3] for line in lines[2:4]] == [[" 6.1 ", " 2 "], [" 7.3 ", " 1 "]]
    assert "- 6.1-run2-auto truth.open: FAIL: expected 1, got 0" in lines


def test_the_spread_compares_the_longest_run_with_the_median() -> None:
    """Runs of 1, 1 and 4 seconds give four times the median."""
    cells = [
        a_cell(f"6.1-run{run}", tests=(a_test("truth.open", duration_s=took),))
        for run, took in enumerate((1.0, 1.0, 4.0))
    ]
    assert steady.spread(cells) == ["- truth.open: longest 4.0 s, 4.0 times the median"]
