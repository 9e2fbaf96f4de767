"""A cell passes only after the check at its end; of two results or two visits the worse one counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.errors import ConfigError
from harness.host.progress import silent
from harness.plan.cells import Cell
from harness.plan.plan import Plan, Selectors
from harness.results import results_file
from harness.results.model import CellReport, Failure, TestResult
from harness.results.verdict import Verdict
from harness.run.fake import FakeBench
from harness.run.pytest.controller import Controller
from harness.run.pytest.worker import CELL_PROPERTY
from harness.run.run import Options, Run
from tests import ROOT
from tests.harness.results.test_model import made
from tests.harness.run.pytest.test_plugin import Project, project  # noqa: F401 - a fixture
from tests.harness.run.test_cell import _live
from tests.harness.run.test_ending import Command

LAST = "*::end"  # the last thing that happens in a cell


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("act", ["full", "error", "interrupt", "kill-worker"])
def test_a_cell_whose_end_was_cut_short_does_not_pass(tmp_path: Path, workers: str, act: str) -> None:
    """Whatever interrupts the teardown, the cell is not PASS, and the incomplete run exits 3 or 4."""
    if (workers, act) == ("0", "kill-worker"):
        pytest.skip("that process is the whole run")
    command = Command(tmp_path, {f"6.1-auto{LAST[1:]}": act})
    process = command.start("-n", workers, "--test", "truth.open", "--test", "truth.unlink")
    output = process.communicate(timeout=60)[0]
    assert process.returncode in (3, 4), output
    found = command.results()
    assert found.run.exit_code == process.returncode
    assert not found.run.complete
    cell = found.cells[0]
    assert (cell.id, cell.closed) == ("6.1-auto", False)
    assert cell.verdict in (Verdict.INFRA, Verdict.NOT_RUN)


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_last_teardown_makes_the_run_incomplete(
    tmp_path: Path, workers: str, number: signal.Signals
) -> None:
    """The only test has run, but the check at the end of its cell has not."""
    command = Command(tmp_path, {LAST: "sleep"})
    process = command.start("-n", workers, "--kernel", "6.1", "--test", "truth.open")
    command.wait_for("end 6.1-auto")
    process.send_signal(number)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 4, output
    found = command.results()
    assert (found.cells[0].verdict, found.cells[0].closed) == (Verdict.NOT_RUN, False)
    if workers == "0":  # a busy controller may not have received the result of the test yet
        assert "end of the cell was not checked" in found.cells[0].reason


def test_a_deadline_in_the_last_teardown_makes_the_run_incomplete(tmp_path: Path) -> None:
    """The run's own deadline passes during the check at the end of the last cell."""
    command = Command(tmp_path, {LAST: "sleep"})
    process = command.start("-n", "0", "--kernel", "6.1", "--test", "truth.open", "--deadline", "2")
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 4, output
    assert command.results().cells[0].verdict is Verdict.NOT_RUN


@pytest.mark.parametrize("workers", ["0", "2"])
def test_two_visits_of_one_cell_are_one_cell(project: Project, workers: str) -> None:  # noqa: F811
    """The second visit of a cell does not replace the failure at the end of its first."""
    project.script({"6.1-auto::end": "leak,pass"})
    names = ("6.1-auto::truth.open", "6.12-auto::truth.open", "6.1-auto::truth.unlink")
    ids = [f"matrix.yaml::{name}" for name in names]
    done = project.pytest("-n", workers, *ids, apart=True)
    ended = results_file.load(project.path / "out/latest/results.json")
    assert done.ret == 1
    assert ended.cells[0].verdict is Verdict.FAIL
    assert "left behind" in ended.cells[0].reason
    assert [str(test.verdict) for test in ended.cells[0].tests] == ["PASS", "PASS"]


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        ({"*::quit": "splat"}, Verdict.SPLAT, "WARNING"),
        ({"*::end": "leak"}, Verdict.FAIL, "left behind: program bpf_prog_1"),
        ({"*::end": "blind"}, Verdict.FAIL, "the search for leftovers of the agent failed"),
        ({"*::quit": "fail"}, Verdict.FAIL, "server ended"),
        ({}, Verdict.SKIP, "lsm is silent"),
    ],
)
def test_a_refused_hook_set_is_checked_at_its_end(
    cell: Cell, folder: Path, script: dict[str, str], verdict: Verdict, words: str
) -> None:
    """A refusal is a SKIP only if it left nothing behind and the kernel did not complain."""
    forced = cell.model_copy(update={"hookset": "lsm"})
    _, report, _ = _live(forced, folder, {"*::load": "refuse,silent", **script})
    assert report.closed
    assert report.cause
    assert report.cause.verdict is verdict
    assert words in report.cause.reason


def test_a_worker_that_dies_after_its_last_test_exits_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All cells are closed and pass, but a worker failed during its clean-up."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text("kernels: [6.1]\n")
    selectors = Selectors(test=("truth.open",))
    run = Run(Options(matrix=tmp_path / "matrix.yaml", selectors=selectors), FakeBench())
    run.prepare(silent)
    run.record_test("6.1-auto", TestResult(name="truth.open", verdict=Verdict.PASS))
    report = CellReport(id="6.1-auto", closed=True)
    node = Mock(workeroutput={CELL_PROPERTY: [report.model_dump_json()]})
    node.gateway.id = "gw0"
    Controller(run, None).pytest_testnodedown(node, "Not properly terminated")
    assert run.finish() == 3
    assert run.finished
    assert [cell.verdict for cell in run.finished.cells] == [Verdict.PASS]
    line = "worker gw0 died: Not properly terminated"
    assert (run.finished.run.notes, run.finished.run.failures) == ((line,), (Failure(what=line),))


@pytest.mark.parametrize("closed", [True, False, None])
def test_results_that_pass_a_cell_that_was_not_closed_are_refused(plan: Plan, closed: bool | None) -> None:
    """Results of an older harness lack the field, and stay readable."""
    tests = {pair: TestResult(name=pair[1], verdict=Verdict.PASS) for pair in plan.pairs()}
    found = made(plan, tests)
    cells = tuple(cell.model_copy(update={"closed": closed}) for cell in found.cells)
    contradiction = results_file.contradiction(found.model_copy(update={"cells": cells}))
    assert contradiction == ("5.10-auto is PASS, and its end was not checked" if closed is False else "")


def test_a_shard_cannot_require_that_each_test_passes(tmp_path: Path) -> None:
    """The cell in which a test passes may be in another shard, and merging does not check it."""
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: [6.1, 6.12]\n")
    with pytest.raises(ConfigError, match="--must-pass: a shard does not know"):
        _ = Run(Options(matrix=matrix, must_pass=True, shard="1/2"), FakeBench()).plan


_UNBUILT = """
from pathlib import Path
from pydantic import BaseModel
import harness.commands.run
from harness.run.fake import FakeBench
from harness.run.run import Options, Run

def unbuilt(parent):
    for child in parent.__subclasses__():
        if child.__module__.startswith("harness.") and not child.__pydantic_complete__:
            yield child.__name__
        yield from unbuilt(child)

before = set(unbuilt(BaseModel))
with Run(Options(matrix=Path("matrix.yaml")), FakeBench()).ending():
    print(len(before) > 10, sorted(unbuilt(BaseModel)))
"""


def test_no_signal_can_break_a_validator_that_is_built_at_its_first_use(tmp_path: Path) -> None:
    """All models are built before a signal can raise, because pydantic keeps a half-built validator."""
    (tmp_path / "matrix.yaml").write_text("kernels: [6.1]\n")
    argv = [sys.executable, "-c", _UNBUILT]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout == "True []\n"
