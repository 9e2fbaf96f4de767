"""`harness run --resume DIR`: machines without a result run again, and the folder has all results."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

import harness.lab.lab
from harness import cli
from harness.commands import run as run_command
from harness.plan.plan import Plan
from harness.results import model
from harness.results.verdict import Verdict
from harness.run.fake import FakeBench
from harness.run.run import Options


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which one of two machines failed for the infrastructure; the next runs are healthy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench({}))
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: [6.1, 7.3]\nhooksets: [lsm, kprobe]\n")
    options = Options(matrix=matrix, folder=tmp_path / "night")
    script = {"7.3-lsm::truth.open": "lost"}
    assert run_command.run(options, FakeBench(script), Console(file=io.StringIO()), "0") == 4
    return tmp_path / "night"


def test_only_the_machine_without_a_result_runs_again(folder: Path) -> None:
    before = model.load(folder / "results.json")
    whole = Plan.model_validate_json((folder / "plan.json").read_text())
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    after = model.load(folder / "results.json")
    assert after.run.exit_code == 0
    assert after.run.complete
    assert {cell.verdict for cell in after.cells} == {Verdict.PASS}
    assert [cell.id for cell in after.cells] == [cell.id for cell in whole.cells]
    assert after.cells[0] == before.cells[0]  # with its times: it did not run again
    assert Plan.model_validate_json((folder / "plan.json").read_text()) == whole
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["night"]


def test_a_complete_run_stays_as_it_is(folder: Path) -> None:
    """There is nothing to run."""
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    before = model.load(folder / "results.json")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert model.load(folder / "results.json") == before


def test_a_folder_without_results_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "results.json").unlink()
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 4
    assert "no results.json" in capsys.readouterr().err
