"""On real kernels the merged shards of a plan equal one run of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.report.compare.comparison import compare
from harness.report.shared.hooks import in_use
from harness.results import results_file
from harness.results.model import CellResult, Results

pytestmark = pytest.mark.guest

# A hook set that both kernels have, and one that neither has: its cells are SKIP for what was observed there.
MATRIX = """
kernels:
  - {name: "5.10", series: "5.10", flavour: cloud}
  - {name: "6.1", series: "6.1", flavour: cloud}
hooksets: [auto, kprobe-multi]
"""
NAMES = ("truth.open", "truth.rename", "approvers.path", "discarders.parent", "doors.at", "loss.small_ring")
CHOSEN = tuple(word for name in NAMES for word in ("--test", name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    return tmp_path


def harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a developer does, beside the matrix."""
    program = Path(sys.executable).with_name("harness")
    done = subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, check=False)
    sys.stdout.write(f"{' '.join(words)}\n{done.stdout}{done.stderr}")
    return done


def verdicts(cells: tuple[CellResult, ...]) -> dict[str, list[tuple[str, str]]]:
    """Return the verdict of each cell, and those of its tests in order."""
    return {
        cell.id: [("", cell.verdict), *((test.name, test.verdict) for test in cell.tests)] for cell in cells
    }


def observed(found: Results) -> list[tuple[object, ...]]:
    """Return what two runs of one plan have in common: kernels, capabilities, hooks, and program sizes."""
    return [
        (
            cell.kernel,
            cell.capabilities,
            cell.coverage,
            [(hook.event, hook.type, hook.point, hook.insns) for hook in cell.hooks if in_use(hook)],
        )
        for cell in found.cells
    ]


def test_shards_of_a_real_run_are_the_run(folder: Path) -> None:
    """Two shards of two machines, run separately; merged they equal one run of both."""
    whole_run = harness(folder, "run", *CHOSEN, "--output", "whole")
    (folder / "plan.json").write_text(harness(folder, "plan", *CHOSEN, "--json").stdout)
    shards = json.loads(harness(folder, "plan", *CHOSEN, "--shards", "2", "--json").stdout)["shards"]
    assert [shard["shard"] for shard in shards] == ["1/2", "2/2"]
    for number, shard in enumerate(shards):
        harness(folder, "run", *CHOSEN, "--shard", shard["shard"], "--output", f"shard-{number}")
    merged_run = harness(folder, "merge", "shard-0", "shard-1", "--plan", "plan.json", "--output", "merged")
    whole, merged = (results_file.load(folder / name / "results.json") for name in ("whole", "merged"))
    assert verdicts(merged.cells) == verdicts(whole.cells)
    assert observed(merged) == observed(whole)
    assert (merged.totals, merged.run.complete) == (whole.totals, whole.run.complete)
    assert merged_run.returncode == whole_run.returncode == 0
    assert compare(whole, merged).exit_code == 0
    assert not compare(whole, merged).changes
