"""The example of another project: it builds, it plans, and on real kernels it passes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import cli
from harness.plan import checked, suites
from harness.plan.plan import Selectors, make
from harness.results import model

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/execs"


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    subprocess.run(["make", "-s", "-C", str(EXAMPLE)], check=True)


def test_the_example_is_a_suite_on_four_kernels() -> None:
    plan = make(checked.load(EXAMPLE / "matrix.yaml"), Selectors())
    suites.check(plan, EXAMPLE)
    assert [cell.id for cell in plan.cells] == ["5.10-execs", "6.1-execs", "6.12-execs", "7.3-execs"]
    assert {test for _, test in plan.pairs()} == {"command.execs"}


@pytest.mark.guest
def test_the_example_passes_on_real_kernels(tmp_path: Path) -> None:
    words = ["--matrix", str(EXAMPLE / "matrix.yaml"), "--output", str(tmp_path)]
    assert cli.main(["run", *words]) == 0
    assert [cell.verdict for cell in model.load(tmp_path / "results.json").cells] == ["PASS"] * 4
