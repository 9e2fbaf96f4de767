"""A machine boots as soon as its own kernel is there: `harness run` with machines that play a script."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from harness.results.verdict import Verdict
from tests.harness.run.test_ending import WAIT_S, Command

# Without xdist the cells run in the order of the plan; with it, a machine that can boot comes first.
HELD = [("0", "6.12"), ("1", "6.1"), ("2", "6.1")]


def _verdicts(command: Command) -> dict[str, Verdict]:
    return {cell.id: cell.tests[0].verdict for cell in command.results().cells}


@pytest.mark.parametrize(("workers", "held"), HELD)
def test_a_test_passes_before_all_kernels_are_there(tmp_path: Path, workers: str, held: str) -> None:
    """The download of the other kernel goes on until the test lets it."""
    command = Command(tmp_path, {f"{held}-auto::fetch": "hold"})
    process = command.start("-n", workers, "--test", "truth.open")
    command.wait_for_output(process, "PASS")
    log = command.log.read_text()
    assert f"fetch {held}-amd64" in log
    assert f"boot {held}-amd64" not in log
    command.log.with_name("go").touch()
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 0, output
    assert f"boot {held}-amd64" in command.log.read_text()
    assert set(_verdicts(command).values()) == {Verdict.PASS}


@pytest.mark.parametrize(("workers", "held"), HELD)
def test_a_download_that_fails_later_costs_its_own_cells(tmp_path: Path, workers: str, held: str) -> None:
    """The run exits 3, and the other cell has passed."""
    command = Command(tmp_path, {f"{held}-auto::fetch": "hold", f"{held}-auto::boot": "missing"})
    process = command.start("-n", workers, "--test", "truth.open")
    command.wait_for_output(process, "PASS")
    command.log.with_name("go").touch()
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 3, output
    found = _verdicts(command)
    assert found.pop(f"{held}-auto") is Verdict.INFRA
    assert set(found.values()) == {Verdict.PASS}


@pytest.mark.parametrize(("workers", "held"), HELD)
def test_an_interrupt_ends_the_downloads(tmp_path: Path, workers: str, held: str) -> None:
    """What passed before is kept."""
    command = Command(tmp_path, {f"{held}-auto::fetch": "hold"})
    process = command.start("-n", workers, "--test", "truth.open")
    command.wait_for_output(process, "PASS")
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=WAIT_S)[0]
    assert process.returncode == 4, output
    found = _verdicts(command)
    assert found.pop(f"{held}-auto") is Verdict.NOT_RUN
    assert set(found.values()) == {Verdict.PASS}
