"""The example of another project passes on real kernels."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness import cli
from harness.results import results_file
from tests import ROOT

EXAMPLE = ROOT / "examples/execs"

pytestmark = pytest.mark.guest


def test_the_example_passes_on_real_kernels(tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "-C", str(EXAMPLE)], check=True)
    words = ["--matrix", str(EXAMPLE / "matrix.yaml"), "--output", str(tmp_path)]
    assert cli.main(["run", *words]) == 0
    assert [cell.verdict for cell in results_file.load(tmp_path / "results.json").cells] == ["PASS"] * 4
