"""However a run ends, it leaves results in which nothing is missing, in time, and no machine."""

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
from harness.results import model
from harness.results.model import Results
from harness.run.cell import CellRun
from tests.harness import played

ROOT = Path(__file__).parents[2]
HURRY_S = 5.0


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
        deadline = time.monotonic() + 60
        while not self.log.exists() or word not in self.log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def results(self) -> Results:
        return model.load(self.folder / "out/latest/results.json")


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGINT, "the run was interrupted"), (signal.SIGTERM, "the run was ended by SIGTERM")],
)
def test_who_ends_a_run_gets_its_results_at_once(
    tmp_path: Path, workers: str, number: signal.Signals, why: str
) -> None:
    command = Command(tmp_path, {"*::truth.unlink": "sleep"})
    process = command.start("-n", workers)
    command.wait_for("truth.unlink")
    began = time.monotonic()
    process.send_signal(number)
    output = process.communicate(timeout=30)[0]
    assert time.monotonic() - began < HURRY_S
    assert process.returncode == 4, output
    found = command.results()
    assert not found.run.complete
    assert {test.reason for cell in found.cells for test in cell.tests} == {"", why}
    booted = command.log.read_text().count("boot")
    # A worker that was killed cannot say so; what it ran is reaped.
    assert command.log.read_text().count("destroy") == booted or command.log.read_text().count("reap") == 2


def test_who_ends_a_run_while_it_fetches_gets_results_too(tmp_path: Path) -> None:
    command = Command(tmp_path, {"*::fetch": "sleep"})
    process = command.start()
    command.wait_for("fetch")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=30)[0]
    assert time.monotonic() - began < HURRY_S
    assert process.returncode == 4, output
    assert set(command.results().totals) == {"NOT_RUN"}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_at_its_deadline_a_run_ends_with_results(tmp_path: Path, workers: str) -> None:
    command = Command(tmp_path, {"*::truth.unlink": "sleep"})
    process = command.start("-n", workers, "--deadline", "3")
    output = process.communicate(timeout=30)[0]
    assert process.returncode == 4, output
    found = command.results()
    assert found.run.duration_s < 3 + 2 * HURRY_S
    reasons = {test.reason for cell in found.cells for test in cell.tests}
    # On a host that is busy, it may pass before the first test.
    assert reasons - {""} == {"the run's deadline of 3 s has passed"}


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    command = Command(tmp_path, {})
    processes = [command.start("-n", "0") for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    folders = [path for path in (command.folder / "out").iterdir() if not path.is_symlink() and path.is_dir()]
    assert len(folders) == 2
    assert all(model.load(path / "results.json").run.complete for path in folders)
    assert command.results().run.id in {path.name for path in folders}


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


def test_a_disk_that_is_full_meanwhile_is_infrastructure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CellRun, "_log", _full)
    assert _inside(tmp_path, monkeypatch) == 3
    found = model.load(tmp_path / "out/latest/results.json")
    assert set(found.totals) == {"INFRA"}
    assert "No space left on device" in found.cells[0].reason
    assert "destroy" in (tmp_path / "log").read_text()
