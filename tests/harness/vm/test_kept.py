"""`--keep-on-fail`: the machine of a failed cell lives on, can be entered, and is ended on request."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands import run as run_command
from harness.errors import InfrastructureError
from harness.run.fake import FakeBench
from harness.run.run import Options
from harness.vm import kept, reaper
from harness.vm.kept import Kept
from harness.vm.ownership import RunDirectory, run_directories


def _run(
    tmp_path: Path, script: dict[str, str], workers: str = "0", *, keep: bool = True
) -> tuple[list[str], str]:
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text("kernels: [6.1]\nhooksets: [lsm, kprobe]\n")
    out = io.StringIO()
    options = Options(matrix=matrix, output=tmp_path / "out", keep_on_fail=keep)
    run_command.run(options, FakeBench(script, tmp_path / "log"), Console(file=out, width=200), workers)
    lines = (tmp_path / "log").read_text().splitlines()
    events = [line.partition(" ")[2] for line in lines]
    return [event for event in events if event.split()[0] in ("boot", "keep", "destroy")], out.getvalue()


def test_the_next_cell_gets_a_machine_of_its_own(tmp_path: Path) -> None:
    events, printed = _run(tmp_path, {"6.1-lsm::truth.open": "fail"})
    assert events == ["boot 6.1-amd64", "keep 6.1-amd64", "boot 6.1-amd64", "destroy 6.1-amd64"]
    assert "kept: harness shell --attach 6.1-lsm, or:\n  ssh 6.1-lsm\n" in printed


def test_a_machine_whose_agent_cannot_load_is_kept(tmp_path: Path) -> None:
    events, _ = _run(tmp_path, {"6.1-kprobe::load": "refuse"})
    assert events[-1] == "keep 6.1-amd64"


@pytest.mark.parametrize("script", [{}, {"6.1-lsm::truth.open": "skip"}, {"6.1-lsm::truth.open": "crash"}])
def test_a_passed_or_dead_machine_is_not_kept(tmp_path: Path, script: dict[str, str]) -> None:
    events, printed = _run(tmp_path, script)
    assert "keep 6.1-amd64" not in events
    assert "kept:" not in printed


def test_without_the_option_nothing_is_kept(tmp_path: Path) -> None:
    events, _ = _run(tmp_path, {"6.1-lsm::truth.open": "fail"}, keep=False)
    assert events == ["boot 6.1-amd64", "destroy 6.1-amd64"]


@pytest.fixture
def kept_run(tmp_path: Path) -> Iterator[tuple[RunDirectory, subprocess.Popen[bytes]]]:
    """A run directory with a process that looks like a QEMU of it."""
    directory = RunDirectory.claim(tmp_path / "r")
    program = tmp_path / "qemu-system-fake"
    program.symlink_to(sys.executable)
    name = f"guest={directory.token}-1,debug-threads=on"
    waits = "import sys; print(flush=True); sys.stdin.read()"
    argv = [str(program), "-c", waits, name]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()  # only now does its command line show
    yield directory, process
    process.kill()
    process.communicate()


Pretended = tuple[RunDirectory, "subprocess.Popen[bytes]"]


def test_a_kept_machine_outlives_its_run_and_every_reaper(tmp_path: Path, kept_run: Pretended) -> None:
    directory, process = kept_run
    with directory:
        kept.note(directory.path, Kept(f"{directory.token}-1", "6.1-lsm", ("ssh", "there")))
    assert directory.path.is_dir()
    assert reaper.reap([tmp_path / "r"]) == []
    assert process.poll() is None
    assert kept.find("6.1-lsm", run_directories([tmp_path / "r"])).ssh == ("ssh", "there")
    assert kept.find("", run_directories([tmp_path / "r"])).cell == "6.1-lsm"


def test_clean_ends_kept_machines(tmp_path: Path, kept_run: Pretended) -> None:
    directory, process = kept_run
    with directory:
        kept.note(directory.path, Kept(f"{directory.token}-1", "6.1-lsm", ("ssh",)))
    (reaped,) = reaper.reap([tmp_path / "r"], also_kept=True)
    assert reaped.processes == (process.pid,)
    assert not directory.path.exists()


def test_a_machine_that_was_powered_off_leaves_nothing(tmp_path: Path, kept_run: Pretended) -> None:
    directory, process = kept_run
    with directory:
        kept.note(directory.path, Kept(f"{directory.token}-1", "6.1-lsm", ("ssh",)))
    process.kill()
    process.wait()
    assert len(reaper.reap([tmp_path / "r"])) == 1
    assert not directory.path.exists()
    with pytest.raises(InfrastructureError, match=r"no machine is kept"):
        kept.find("6.1-lsm", run_directories([tmp_path / "r"]))


def test_a_run_without_kept_machines_leaves_nothing(tmp_path: Path) -> None:
    with RunDirectory.claim(tmp_path / "r") as directory:
        assert kept.read(directory.path) == []
    assert not directory.path.exists()
