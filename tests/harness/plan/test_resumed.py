"""`harness run --resume DIR`: machines without a result run again, and the folder has all results."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import harness.lab.lab
from harness import cli
from harness.commands import run as run_command
from harness.plan.plan import Plan, Selectors
from harness.results import results_file
from harness.results.model import Agent, Failure
from harness.results.verdict import Verdict
from harness.run import package
from harness.run.fake import FakeBench
from harness.run.machines import Machine
from harness.run.run import Options
from harness.run.supplies import Supplies

_ONE = Selectors(test=("truth.open",))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run in which one of two machines failed for the infrastructure; the next runs are healthy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench({}))
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: [6.1, 7.3]\nhooksets: [lsm, kprobe]\n")
    return _ended(matrix, {"7.3-lsm::truth.open": "lost"}, 3, selectors=_ONE)


def _ended(matrix: Path, script: Mapping[str, str], code: int, **settings: Any) -> Path:
    """The folder `night` of a run that ended with this exit code. Copied, because this process locks it."""
    first, night = matrix.with_name("first"), matrix.with_name("night")
    options = Options(matrix=matrix, folder=first, **settings)
    assert run_command.run(options, FakeBench(script), Console(file=io.StringIO()), "0") == code
    shutil.rmtree(night, ignore_errors=True)
    shutil.copytree(first, night)
    shutil.rmtree(first)
    return night


def test_only_the_cell_without_a_result_runs_again(folder: Path) -> None:
    before = results_file.load(folder / "results.json")
    whole = Plan.model_validate_json((folder / "plan.json").read_text())
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    after = results_file.load(folder / "results.json")
    assert after.run.exit_code == 0
    assert after.run.complete
    assert {cell.verdict for cell in after.cells} == {Verdict.PASS}
    assert [cell.id for cell in after.cells] == [cell.id for cell in whole.cells]
    assert after.cells[0] == before.cells[0]  # with its times: it did not run again
    assert Plan.model_validate_json((folder / "plan.json").read_text()) == whole
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["night"]


@pytest.mark.parametrize("parts", [(), ("one", "two")])
def test_a_resumed_run_is_one_run(folder: Path, parts: tuple[str, ...]) -> None:
    """The run of the rest is in no folder of its own; a merge still names its shards."""
    found = results_file.load(folder / "results.json")
    changed = found.run.model_copy(update={"parts": parts})
    results_file.write(found.model_copy(update={"run": changed}), folder)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    after = results_file.load(folder / "results.json").run
    assert (after.id, after.parts) == (found.run.id, parts)


def test_a_complete_run_stays_as_it_is(folder: Path) -> None:
    """There is nothing to run."""
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    before = results_file.load(folder / "results.json")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert results_file.load(folder / "results.json") == before


def test_the_latest_run_is_resumed_through_its_link(folder: Path) -> None:
    """The link stays one, and leads to the folder with all results."""
    out = folder.parent / "out"
    out.mkdir()
    night = folder.rename(out / "night")
    (out / "latest").symlink_to("night")
    (night / "mine.txt").write_text("of the user")
    assert cli.main(["run", "--resume", "out/latest", "-n", "0"]) == 0
    assert results_file.load(night / "results.json").run.exit_code == 0
    assert (out / "latest").readlink() == Path("night")
    assert (night / "mine.txt").read_text() == "of the user"
    assert sorted(path.name for path in out.iterdir()) == ["latest", "night"]


def test_a_cell_keeps_its_result_if_its_neighbour_has_none(folder: Path) -> None:
    """A failure does not disappear because another cell of its machine runs again."""
    script = {"7.3-lsm::truth.open": "fail", "7.3-kprobe::truth.open": "lost"}
    _ended(folder.parent / "matrix.yaml", script, 1, selectors=_ONE)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 1
    after = {cell.id: cell.verdict for cell in results_file.load(folder / "results.json").cells}
    assert after.pop("7.3-lsm") is Verdict.FAIL
    assert set(after.values()) == {Verdict.PASS}


def test_a_failure_whose_repeat_was_interrupted_stays(folder: Path) -> None:
    """The test does not run again, and its evidence stays."""
    _ended(folder.parent / "matrix.yaml", {"7.3-lsm::truth.open": "fail,interrupt"}, 1, selectors=_ONE)
    (folder / "cells/7.3-lsm/mine.log").touch()
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 1
    after = {cell.id: cell.verdict for cell in results_file.load(folder / "results.json").cells}
    assert after.pop("7.3-lsm") is Verdict.FAIL
    assert set(after.values()) == {Verdict.PASS}
    assert (folder / "cells/7.3-lsm/mine.log").exists()


def test_a_failure_that_no_cell_shows_stays(folder: Path) -> None:
    """A test beside the matrix failed before the run was interrupted; it does not run again."""
    found = results_file.load(folder / "results.json")
    failed = found.run.model_copy(update={"exit_code": 1, "notes": ("tests/test_mine.py::test_it failed",)})
    results_file.write(found.model_copy(update={"run": failed}), folder)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 1
    after = results_file.load(folder / "results.json")
    assert {cell.verdict for cell in after.cells} == {Verdict.PASS}
    assert (after.run.exit_code, after.run.complete) == (1, True)


@pytest.mark.parametrize("kernels", ["[6.1, 7.3]", "[7.3]"])
@pytest.mark.parametrize("code", [1, 3])
def test_what_no_cell_shows_stays_also_if_all_cells_run_again(folder: Path, kernels: str, code: int) -> None:
    """A test beside the matrix that failed, and an unexpected error of the harness."""
    matrix = folder.parent / "matrix.yaml"
    matrix.write_text(f"kernels: {kernels}\n")
    script = {"7.3-auto::truth.open": "lost", "bench::close": "error,pass" if code == 3 else "pass"}
    _ended(matrix, script, 3, selectors=_ONE)
    before = results_file.load(folder / "results.json")
    failed = before.run.model_copy(update={"exit_code": code, "notes": (*before.run.notes, "known")})
    results_file.write(before.model_copy(update={"run": failed}), folder)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == code
    after = results_file.load(folder / "results.json")
    assert {cell.verdict for cell in after.cells} == {Verdict.PASS}
    assert (after.run.exit_code, after.run.complete, after.run.started) == (code, True, failed.started)
    assert after.run.failures == failed.failures
    assert set(after.run.notes) >= set(failed.notes)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == code


def test_a_failure_that_the_rest_makes_good_is_forgotten(folder: Path) -> None:
    """A worker that died, and an error in a test of a cell that runs again; not that of another cell."""
    found = results_file.load(folder / "results.json")
    kept = Failure(what="6.1-lsm: an error", cell="6.1-lsm", unexpected=True)
    lost = (
        Failure(what="worker gw0 died"),
        Failure(what="7.3-lsm: an error", cell="7.3-lsm", unexpected=True),
    )
    for failures, code in ((lost, 0), ((kept, *lost), 3)):
        changed = found.run.model_copy(update={"failures": failures})
        results_file.write(found.model_copy(update={"run": changed}), folder)
        assert cli.main(["run", "--resume", "night", "-n", "0"]) == code
        after = results_file.load(folder / "results.json")
        assert (after.run.failures, after.run.complete) == (failures[:-2], True)


def test_a_resumed_shard_is_not_judged_as_a_whole_run(folder: Path) -> None:
    """The hook sets of the matrix that no cell of this shard has are those of other shards."""
    matrix = folder.parent / "matrix.yaml"
    matrix.write_text(
        "kernels: [6.1, 7.3]\nhooksets: [lsm, kprobe]\n"
        "exclude:\n"
        "- {kernel: '6.1', hookset: lsm, reason: other}\n"
        "- {kernel: '7.3', hookset: kprobe, reason: other}\n"
    )
    _ended(matrix, {"7.3-lsm::truth.open": "lost"}, 4, shard="2/2")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert results_file.load(folder / "results.json").run.exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--kernel", "6.1"],
        ["--test", "truth.*"],
        ["--shard", "1/2"],
        ["--must-pass"],
        ["--output", "other"],
        ["--watch"],
        ["--gdb"],
    ],
)
def test_an_option_without_a_meaning_is_refused(
    folder: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = results_file.load(folder / "results.json")
    assert cli.main(["run", "--resume", "night", "-n", "0", *words]) == 2
    assert f"{words[0]}: not with --resume" in capsys.readouterr().err
    assert results_file.load(folder / "results.json") == before


def test_a_rest_that_cannot_start_leaves_no_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once the cause is mended, the same command runs."""
    matrix = folder.parent / "matrix.yaml"
    text = matrix.read_text()
    matrix.unlink()
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    assert "name the run's matrix with --matrix" in capsys.readouterr().err
    matrix.write_text(text)
    assert cli.main(["run", "--resume", "night", "-n", "0", "--", "--no-such-option"]) == 2
    assert not (folder / ".rest").exists()
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0


def test_a_folder_that_others_can_replace_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.parent.chmod(0o777)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    assert "every user of this host can replace" in capsys.readouterr().err


def test_a_folder_with_another_plan_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A planned test without a result must not count as one that was as expected."""
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    plan = Plan.model_validate_json((folder / "plan.json").read_text())
    cell = plan.cells[0].model_copy(update={"tests": (*plan.cells[0].tests, "suite.more")})
    more = plan.model_copy(update={"cells": (cell, *plan.cells[1:])})
    (folder / "plan.json").write_text(more.to_json())
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 4
    assert "6.1-lsm suite.more: planned, and not in the results" in capsys.readouterr().err


def test_a_folder_without_results_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "results.json").unlink()
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 4
    assert "was killed before it wrote results.json" in capsys.readouterr().err


def test_a_folder_of_the_user_beside_it_stays(folder: Path) -> None:
    """Whatever its name is, and whether the rest can run or not."""
    (folder.parent / "night-rest").mkdir()
    (folder.parent / "night-rest/mine").touch()
    assert cli.main(["run", "--resume", "night", "-n", "0", "--", "--no-such-option"]) == 2
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert (folder.parent / "night-rest/mine").exists()


def test_a_rest_that_was_killed_before_its_results_were_joined(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are joined by the next `--resume`, and their cells do not run again."""
    whole = Plan.model_validate_json((folder / "plan.json").read_text())
    cells = tuple(cell for cell in whole.cells if cell.id == "7.3-lsm")
    options = Options(
        matrix=folder.parent / "matrix.yaml",
        folder=folder / ".rest",
        part=True,
        plan=whole.model_copy(update={"cells": cells}),
    )
    assert run_command.run(options, FakeBench(), Console(file=io.StringIO()), "0") == 0
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench({"*::boot": "error"}))
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    after = results_file.load(folder / "results.json")
    assert {cell.verdict for cell in after.cells} == {Verdict.PASS}
    assert not (folder / ".rest").exists()


def test_a_rest_that_was_killed_before_it_had_results_runs_again(folder: Path) -> None:
    (folder / ".rest/cells/7.3-lsm").mkdir(parents=True)
    (folder / ".rest/plan.json").write_text("{")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert not (folder / ".rest").exists()


def test_a_rest_that_is_a_link_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder to which it leads stays."""
    (folder.parent / "precious").mkdir()
    (folder.parent / "precious/mine").touch()
    (folder / ".rest").symlink_to(folder.parent / "precious")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    assert ".rest: is a link" in capsys.readouterr().err
    assert (folder.parent / "precious/mine").exists()


def test_another_agent_is_refused_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results of two agents are never joined, and an hour of tests would be lost."""
    first, second = (Agent(bundle=letter * 64) for letter in "ab")
    path = folder / "results.json"
    before = results_file.load(path)
    path.write_text(
        before.model_copy(update={"run": before.run.model_copy(update={"agent": first})}).to_json()
    )

    class Built(FakeBench):
        def prepare(self, *words: Any) -> Supplies:
            return super().prepare(*words).model_copy(update={"agent": second})

        def machine(self, *_words: Any) -> Machine:
            raise AssertionError

    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: Built())
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    assert "the agent changed since the run began" in capsys.readouterr().err
    assert results_file.load(path).cells == before.cells
    assert not (folder / ".rest").exists()


@pytest.mark.parametrize(
    ("field", "what"),
    [("harness_digest", "the harness"), ("package_digest", "the Debian package of the agent")],
)
def test_another_harness_or_package_is_refused_before_anything_runs(
    folder: Path,
    field: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Results that were judged in two ways, or of two packages, are never joined."""
    monkeypatch.setattr(package, "check", lambda *_: "cd")
    path = folder / "results.json"
    before = results_file.load(path)
    other = before.run.model_copy(update={field: "ab"})
    results_file.write(before.model_copy(update={"run": other}), folder)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    assert f"{what} changed since the run began" in capsys.readouterr().err
    assert results_file.load(path).cells == before.cells
    assert not (folder / ".rest").exists()


@pytest.mark.parametrize("name", ["tool", "expectations.yaml"])
def test_other_files_are_refused_before_anything_runs(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Results of one run are of one suite, and are judged by the same expectations."""
    matrix = folder.parent / "matrix.yaml"
    matrix.write_text("kernels: [6.1, 7.3]\nsuites: [{name: mine, command: ./tool, files: tool}]\n")
    (folder.parent / "tool").write_text("exit 0\n")
    _ended(matrix, {"7.3-mine::command.mine": "lost"}, 3)
    before = results_file.load(folder / "results.json")
    changed = folder.parent / name
    text = changed.read_text() if changed.exists() else "{}\n"
    failing = "expected_failures: [{test: '*', reason: r, link: l, until: 2099-01-01}]\n"
    changed.write_text(failing if name.endswith("yaml") else "exit 1\n")
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 2
    what = "suite mine" if name == "tool" else name
    assert f"{what} changed since the run began" in capsys.readouterr().err
    assert results_file.load(folder / "results.json") == before
    assert not (folder / ".rest").exists()
    changed.write_text(text)
    assert cli.main(["run", "--resume", "night", "-n", "0"]) == 0
    assert results_file.load(folder / "results.json").run.inputs == before.run.inputs


@pytest.mark.parametrize("name", ["loop", "x" * 300, "loop/x"])
def test_a_name_that_leads_nowhere_is_refused(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder.parent / "loop").symlink_to("loop")
    for words in (["--resume", name], ["--matrix", f"{name}/matrix.yaml"], ["--matrix", name]):
        assert cli.main(["run", "-n", "0", *words]) == 2
        assert "Traceback" not in (err := capsys.readouterr().err)
        assert err.startswith("harness: ")
