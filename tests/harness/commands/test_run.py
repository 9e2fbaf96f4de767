"""`harness run … -- PYTEST OPTIONS`, in its own process, with machines that play a script."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.selftest.catalogue import CATALOGUE
from harness.results import results_file
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


def test_last_failed_runs_only_what_failed(command: Command) -> None:
    """Pytest's cache lies beside the output folders of runs, so a new run keeps it."""
    run(command, "--test", "truth.*")
    code, output = run(command, "--", "--lf")
    assert code == 1, output
    assert [(cell.id, test.name) for cell in command.results().cells for test in cell.tests] == [
        ("6.1-auto", "truth.open")
    ]


@pytest.mark.parametrize("words", [["--co"], ["--collect-only", "-q"]])
def test_listing_boots_and_fetches_nothing(command: Command, words: list[str]) -> None:
    """Each line is a test id that a command line accepts."""
    code, output = run(command, "--kernel", "6.1", "--", *words)
    assert code == 0, output
    ids = output.splitlines()
    assert "matrix.yaml::6.1-auto::truth.open" in ids
    assert {one.removeprefix("matrix.yaml::6.1-auto::") for one in ids} <= {one.name for one in CATALOGUE}
    assert not (command.folder / "out").exists()


def test_a_test_id_selects_one_test(command: Command) -> None:
    code, output = run(command, "--", "matrix.yaml::6.12-auto::truth.open")
    assert code == 0, output
    assert "6.1-amd64  fetching" not in output
    assert [cell.id for cell in command.results().cells] == ["6.12-auto"]


def test_a_run_without_xdist_works(command: Command) -> None:
    code, output = run(command, "--", "-p", "no:xdist", "-k", "truth.open", "--junitxml", "mine.xml")
    assert code == 1, output
    assert 'name="truth.open"' in (command.folder / "mine.xml").read_text()


def test_workers_of_pytest_itself(command: Command) -> None:
    """An option after `--` overrides one before it."""
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
def test_a_bad_option_is_refused_before_anything_is_fetched(
    command: Command, words: list[str], line: str
) -> None:
    code, output = run(command, "--", *words)
    assert code == 2, output
    assert line in output
    assert "fetching" not in output
    assert "Traceback" not in output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_options_that_select_no_test_are_refused(command: Command, workers: str) -> None:
    code, output = run(command, "--", "-n", workers, "-k", "nonsense")
    assert code == 2, output
    assert output.splitlines()[-1] == "harness: the options of pytest select no test"


def test_options_that_select_no_test_make_no_folder(command: Command) -> None:
    """`latest` stays the folder of the run before."""
    run(command, "--test", "truth.open")
    before = sorted(path.name for path in (command.folder / "out").iterdir())
    for words in (["-k", "nonsense"], ["nothing.yaml"]):
        code, output = run(command, "--", *words)
        assert code == 2, output
    assert sorted(path.name for path in (command.folder / "out").iterdir()) == before
    assert command.results().cells


@pytest.mark.parametrize(
    "words", [["--help"], ["--markers"], ["--fixtures"], ["--cache-show"], ["--setup-only"], ["--setup-plan"]]
)
def test_options_that_only_print_are_refused(command: Command, words: list[str]) -> None:
    """They run no test, and their output needs pytest's own reporter."""
    code, output = run(command, "--", *words)
    assert code == 2, output
    assert output.splitlines()[-1].startswith("harness: pytest refused its options: ")
    assert f"{words[0]}: `harness run` shows nothing of pytest's; type `pytest {words[0]}`" in output
    assert "fetching" not in output
    assert not (command.folder / "out").exists()


def test_another_test_that_fails_fails_the_run(tmp_path: Path) -> None:
    command = Command(tmp_path, {})
    (command.folder / "test_mine.py").write_text("def test_mine():\n    assert 0\n")
    code, output = run(command, "--test", "truth.open", "--", "matrix.yaml", "test_mine.py")
    assert code == 1, output
    assert "test_mine.py::test_mine: a test beside the matrix failed" in output.splitlines()
    assert command.results().run.exit_code == 1


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        (".", "not empty, and not the folder of a run"),
        ("matrix.yaml", "cannot be written"),
        ("matrix.yaml/below", "cannot be written"),
    ],
)
def test_a_bad_output_folder_is_refused_before_anything_is_fetched(
    command: Command, folder: str, line: str
) -> None:
    code, output = run(command, "--output", folder)
    assert code == 2, output
    assert line in output.splitlines()[0] + output.splitlines()[-1]
    assert "fetching" not in output


@pytest.mark.parametrize("step", ["boot", "load", "truth.open", "quit", "end"])
def test_a_defect_anywhere_in_a_cell_exits_3(tmp_path: Path, step: str) -> None:
    command = Command(tmp_path, {f"6.1-auto::{step}": "error"})
    code, output = run(command, "--test", "truth.open")
    assert code == 3, output
    assert "ValueError" in (command.folder / "out/latest/cells/6.1-auto/traceback.txt").read_text()


def test_a_matrix_in_another_folder_works(command: Command) -> None:
    (command.folder / "elsewhere").mkdir()
    command.folder = command.folder / "elsewhere"
    code, output = run(command, "--matrix", "../matrix.yaml", "--test", "truth.open")
    assert code == 1, output
    assert len(results_file.load(command.folder / "out/latest/results.json").cells) == 2
