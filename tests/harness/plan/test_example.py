"""The example of another project compiles and plans; tests/guest/harness/test_examples.py runs it."""

from __future__ import annotations

import subprocess

from harness.plan import checked, suites
from harness.plan.plan import Selectors, make
from tests import ROOT

EXAMPLE = ROOT / "examples/execs"


def test_the_example_is_a_suite_on_four_kernels() -> None:
    subprocess.run(["make", "-s", "-C", str(EXAMPLE)], check=True)
    plan = make(checked.load(EXAMPLE / "matrix.yaml"), Selectors())
    suites.check(plan, EXAMPLE)
    assert [cell.id for cell in plan.cells] == ["5.10-execs", "6.1-execs", "6.12-execs", "7.3-execs"]
    assert {test for _, test in plan.pairs()} == {"command.execs"}
