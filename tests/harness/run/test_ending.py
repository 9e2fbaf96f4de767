"""However a run ends, it writes complete results in time, and leaves no machine."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness import cli, report
from harness.host.signals import REASONS
from harness.results import results_file
from harness.results.model import Results
from harness.run.cell import CellRun
from tests import ROOT
from tests.harness.run import played

WAIT_S = 900.0  # ends a test that hangs; a machine that sleeps does so for a day


class Command:
    """`harness run` in a folder whose name has a space."""

    def __init__(self, folder: Path, script: dict[str, str]) -> None:
        self.folder = folder / "a folder"
        self.folder.mkdir(exist_ok=True)
        self.log = self.folder / "log"
        (self.folder / "matrix.yaml").write_text("kernels: [6.1, 6.12]\n")
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTEST_PLUGINS": played.__name__,
            "FAKE_SCRIPT": json.dumps(script),
            "FAKE_LOG": str(self.log),
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", played.__name__, "run", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for(self, word: str) -> None:
        deadline = time.monotonic() + WAIT_S
        while not self.log.exists() or word not in self.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    @staticmethod
    def wait_for_output(process: subprocess.Popen[str], word: str) -> None:
        """Read what the run prints until a line has this word: what a worker reported has reached the run."""
        assert process.stdout
        assert any(word in line for line in process.stdout)

    def results(self) -> Results:
        return results_file.load(self.folder / "out/latest/results.json")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT],
        [signal.SIGTERM],
        [signal.SIGHUP],
        [signal.SIGINT, signal.SIGTERM],
        [signal.SIGINT, signal.SIGINT, signal.SIGHUP],
    ],
)
def test_a_run_that_is_ended_by_signals_has_results(
    tmp_path: Path, workers: str, numbers: list[signal.Signals]
) -> None:
    """Complete results with one of the signals as the reason, and no machine; running tests are aborted."""
    command = Command(tmp_path, {"*::truth.unlink": "sleep"})
    process = command.start("-n", workers)
    command.wait_for("truth.unlink")
    command.wait_for_output(process, "PASS")
    for number in numbers:
        process.send_signal(number)
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 4, output
    found = command.results()
    assert not found.run.complete
    reasons = {test.reason for cell in found.cells for test in cell.tests}
    assert len(reasons) == 2
    assert reasons <= {"", *(REASONS[number] for number in numbers)}
    booted = command.log.read_text().count("boot")
    # A worker that was killed cannot say so; what it ran is reaped.
    assert command.log.read_text().count("destroy") == booted or command.log.read_text().count("reap") == 2


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_failure_whose_repeat_is_interrupted_stays(tmp_path: Path, workers: str) -> None:
    """The product failed, whatever the repeat would have shown."""
    command = Command(tmp_path, {"*::truth.open": "fail,sleep"})
    process = command.start("-n", workers, "--test", "truth.open", "--kernel", "6.1")
    command.wait_for_output(process, "6.1-auto: truth.open failed and runs again: ")
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 1, output
    found = command.results()
    assert [cell.verdict for cell in found.cells] == ["FAIL"]
    assert len(found.cells[0].tests[0].attempts) == 1
    assert not found.run.complete


def test_a_failure_whose_repeat_kills_the_worker_stays(tmp_path: Path) -> None:
    command = Command(tmp_path, {"6.1-auto::truth.open": "fail,kill-worker"})
    process = command.start("-n", "2", "--test", "truth.open")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 1, output
    (failed, other) = command.results().cells
    assert (failed.verdict, other.verdict) == ("FAIL", "PASS")
    assert [attempt.verdict for attempt in failed.tests[0].attempts] == ["FAIL", "INFRA"]


def test_a_run_that_is_ended_while_it_fetches_has_results(tmp_path: Path) -> None:
    command = Command(tmp_path, {"*::fetch": "sleep"})
    process = command.start()
    command.wait_for("fetch")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 4, output
    assert set(command.results().totals) == {"NOT_RUN"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_at_its_deadline_a_run_ends_with_results(tmp_path: Path, workers: str) -> None:
    command = Command(tmp_path, {"*::truth.unlink": "sleep"})
    process = command.start("-n", workers, "--deadline", "3")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 4, output
    found = command.results()
    reasons = {test.reason for cell in found.cells for test in cell.tests}
    # On a host that is busy, it may pass before the first test.
    assert reasons - {""} == {"the run's deadline of 3 s has passed"}


def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    command = Command(tmp_path, {})
    processes = [command.start("-n", "0") for _ in range(2)]
    outputs = [process.communicate(timeout=WAIT_S)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    found = (path for path in (command.folder / "out").glob("[!.]*") if path.is_dir())
    folders = [path for path in found if not path.is_symlink()]
    assert len(folders) == 2
    assert all(results_file.load(path / "results.json").run.complete for path in folders)
    assert command.results().run.id in {path.name for path in folders}


def test_nohup_is_respected(tmp_path: Path) -> None:
    """A run that was started with SIGHUP ignored goes on when the terminal closes."""
    command = Command(tmp_path, {"6.1-auto::truth.open": "hup"})
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = command.start("-n", "0", "--test", "truth.open")
    finally:
        signal.signal(signal.SIGHUP, before)
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 0, output


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("step", ["reap", "close"])
def test_results_survive_a_clean_up_that_fails(tmp_path: Path, workers: str, step: str) -> None:
    """Results are written first; the run exits 3, which is in its results, and keeps the traceback."""
    command = Command(tmp_path, {f"bench::{step}": "pass,error" if step == "reap" else "error"})
    process = command.start("-n", workers, "--test", "truth.open")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 3, output
    found = command.results()
    assert (found.run.exit_code, found.totals) == (3, {"PASS": 2})
    assert found.run.failures
    assert {failure.what for failure in found.run.failures} <= set(found.run.notes)
    assert all(failure.what.endswith(f"an unexpected error in {step}") for failure in found.run.failures)
    assert all(failure.unexpected for failure in found.run.failures)
    assert "Traceback" not in output
    assert "ValueError" in (command.folder / "out/latest/traceback.txt").read_text()


def test_a_defect_while_preparing_costs_no_results(tmp_path: Path) -> None:
    """An unexpected error exits 3, not 1; the traceback lies beside the results, in which no test ran."""
    command = Command(tmp_path, {"bench::prepare": "error"})
    process = command.start("--test", "truth.open")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 3, output
    assert "Traceback" not in output
    assert command.results().totals == {"NOT_RUN": 2}
    assert "ValueError" in (command.folder / "out/latest/traceback.txt").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_defect_in_a_test_is_infrastructure(tmp_path: Path, workers: str) -> None:
    """An unexpected error in a worker is INFRA, and its traceback lies with the cell."""
    command = Command(tmp_path, {"6.1-auto::truth.open": "error"})
    process = command.start("-n", workers, "--test", "truth.open")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 3, output
    found = command.results()
    assert found.totals == {"PASS": 1, "INFRA": 1}
    (failure,) = found.run.failures
    assert (failure.cell, failure.unexpected) == ("6.1-auto", True)
    assert "an unexpected error in truth.open" in failure.what
    assert "ValueError" in (command.folder / "out/latest/cells/6.1-auto/traceback.txt").read_text()


def test_characters_that_stdout_cannot_print_are_replaced(tmp_path: Path) -> None:
    """No tick in latin-1 costs a run its exit code."""
    command = Command(tmp_path, {})
    command.environment["PYTHONIOENCODING"] = "latin-1"
    process = command.start("-n", "0", "--test", "truth.open")
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 0, output
    assert "? PASS" in output


@pytest.mark.parametrize(("act", "code"), [("pass", 0), ("fail", 1)])
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_closed_pipe_does_not_end_the_run(tmp_path: Path, workers: str, act: str, code: int) -> None:
    """`harness run | head` runs to its end, with the same exit code."""
    command = Command(tmp_path, {"*::truth.open": act})
    process = command.start("-n", workers, "--test", "truth.open")
    assert process.stdout
    process.stdout.close()
    assert process.wait(WAIT_S) == code
    assert command.results().run.exit_code == code


def _full(*_words: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAKE_SCRIPT", "{}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "log"))
    monkeypatch.setattr("harness.lab.lab.VmBench", played.bench)
    (tmp_path / "matrix.yaml").write_text("kernels: [6.1]\n")
    return cli.main(["run", "-n", "0"])


def test_a_disk_that_is_full_at_the_end_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "write_all", _full)
    assert _inside(tmp_path, monkeypatch) == 3
    assert "No space left on device" in capsys.readouterr().err


def test_a_disk_that_is_full_during_the_run_is_infrastructure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CellRun, "_log", _full)
    assert _inside(tmp_path, monkeypatch) == 3
    found = results_file.load(tmp_path / "out/latest/results.json")
    assert set(found.totals) == {"INFRA"}
    assert "No space left on device" in found.cells[0].reason
    assert "destroy" in (tmp_path / "log").read_text()
