"""`harness run … -- PYTEST OPTIONS`, in its own process, with machines that play a script."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.selftest.catalogue import CATALOGUE
from harness.results import model
from tests.harness.run.test_ending import Command

Run = Callable[..., subprocess.CompletedProcess[str]]
FAILS = {"6.1-auto::truth.open": "fail"}


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path, FAILS)


def run(command: Command, *words: str) -> tuple[int, str]:
    process = command.start("-n", "0", *words)
    output = process.communicate(timeout=120)[0]
    return process.returncode, output


def test_stopping_at_the_first_failure(command: Command) -> None:
    code, output = run(command, "--", "-x")
    assert code == 1, output
    assert command.results().totals["NOT_RUN"] > 0  # type: ignore[index]


def test_what_failed_last_time_alone(command: Command) -> None:
    """Pytest's memory lies beside the runs, and survives them."""
    run(command, "--test", "truth.*")
    code, output = run(command, "--", "--lf")
    assert code == 1, output
    assert [(cell.id, test.name) for cell in command.results().cells for test in cell.tests] == [
        ("6.1-auto", "truth.open")
    ]


@pytest.mark.parametrize("words", [["--co"], ["--collect-only", "-q"]])
def test_listing_boots_and_fetches_nothing(command: Command, words: list[str]) -> None:
    """Each line is an id that can be pasted back."""
    code, output = run(command, "--kernel", "6.1", "--", *words)
    assert code == 0, output
    ids = output.splitlines()
    assert "matrix.yaml::6.1-auto::truth.open" in ids
    assert {one.removeprefix("matrix.yaml::6.1-auto::") for one in ids} <= {one.name for one in CATALOGUE}
    assert not (command.folder / "out").exists()


def test_an_id_is_run_alone(command: Command) -> None:
    code, output = run(command, "--", "matrix.yaml::6.12-auto::truth.open")
    assert code == 0, output
    assert "6.1-amd64  fetching" not in output
    assert [cell.id for cell in command.results().cells] == ["6.12-auto"]


def test_without_xdist(command: Command) -> None:
    code, output = run(command, "--", "-p", "no:xdist", "-k", "truth.open", "--junitxml", "mine.xml")
    assert code == 1, output
    assert 'name="truth.open"' in (command.folder / "mine.xml").read_text()


def test_workers_of_pytest_itself(command: Command) -> None:
    """Any option may be given again; the last one counts."""
    code, output = run(command, "--", "-n", "2", "-v", "--maxfail", "5", "-rA", "--tb", "short")
    assert code == 1, output
    assert "2 machines at once" in output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--no-such-option"], "harness: pytest refused its options: --no-such-option"),
        (
            ["matrix.yaml::6.1-auto::truth.opne"],
            "harness: matrix.yaml::6.1-auto::truth.opne: not in the plan (did you mean '6.1-auto::truth",
        ),
    ],
)
def test_a_bad_option_is_known_before_anything_is_fetched(
    command: Command, words: list[str], line: str
) -> None:
    code, output = run(command, "--", *words)
    assert code == 2, output
    assert line in output
    assert "fetching" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_options_that_leave_nothing(command: Command, workers: str) -> None:
    code, output = run(command, "--", "-n", workers, "-k", "nonsense")
    assert code == 2, output
    assert output.splitlines()[-1] == "harness: no test is left by the options of pytest"


def test_a_matrix_of_another_folder(command: Command) -> None:
    (command.folder / "elsewhere").mkdir()
    command.folder = command.folder / "elsewhere"
    code, output = run(command, "--matrix", "../matrix.yaml", "--test", "truth.open")
    assert code == 1, output
    assert len(model.load(command.folder / "out/latest/results.json").cells) == 2
