"""The command line of the harness, with a fake bench."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

import harness.lab.lab
from harness import cli
from harness.commands import run as run_command
from harness.commands.booted import one_machine
from harness.errors import ConfigError
from harness.host import streams
from harness.plan import quantities
from harness.plan.plan import Plan, Selectors, make
from harness.results import model, results_file
from harness.run.fake import FakeBench
from harness.run.run import Options
from tests.harness.conftest import matrix_of


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench())
    path = tmp_path / "matrix.yaml"
    path.write_text("kernels: [6.1, 6.12]\n")
    return path


def _run(matrix: Path, script: dict[str, str], **selectors: tuple[str, ...]) -> tuple[int, list[str]]:
    out = io.StringIO()
    options = Options(matrix=matrix, selectors=Selectors(**selectors), output=matrix.parent / "out")
    code = run_command.run(options, FakeBench(script), Console(file=out, width=100), "0")
    return code, out.getvalue().splitlines()


def test_a_run_prints_its_acceleration_first(matrix: Path) -> None:
    code, lines = _run(matrix, {})
    assert code == 0
    assert lines[0].startswith("acceleration: ")
    assert lines[-1].startswith("Everything as expected.")


def test_a_run_writes_the_files_of_the_contract(matrix: Path) -> None:
    _run(matrix, {}, kernel=("6.1",))
    latest = matrix.parent / "out/latest"
    names = {"plan.json", "results.json", "junit.xml", "summary.md", "cells"}
    assert names <= {path.name for path in latest.iterdir()}
    assert [path.name for path in (latest / "cells").iterdir()] == ["6.1-auto"]


def test_a_cause_that_ends_a_cell_is_one_line_with_a_count(matrix: Path) -> None:
    """Once when it happens and once below the table, whatever the number of tests."""
    code, lines = _run(matrix, {"6.1-auto::boot": "crash"})
    assert code == 3
    (cell, _) = json.loads((matrix.parent / "out/latest/plan.json").read_text())["cells"]
    cause = f"6.1-auto: {len(cell['tests'])} tests ⚠ BOOT_FAIL: panic: Kernel panic"
    assert sum(line.startswith(cause) for line in lines) == 2
    assert sum("Kernel panic" in line for line in lines) == 2


def test_the_plan_is_printed_and_boots_nothing(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--json", "--kernel", "6.1*", "--test", "truth.open"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert [cell["id"] for cell in plan["cells"]] == ["6.1-auto", "6.12-auto"]
    assert not (matrix.parent / "out").exists()


def test_a_plan_with_guests_that_cannot_be_emulated_names_the_packages(
    matrix: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is printed, then exit 2; as JSON it may be for other hosts."""
    matrix.write_text("kernels: ['6.1']\narch: [arm64]\n")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert cli.main(["plan", "--test", "truth.open"]) == 2
    out, err = capsys.readouterr()
    assert "1 cell on 1 machine" in out
    assert "arm64 guests need qemu-system-aarch64 and aarch64-linux-gnu-gcc: not found" in err
    assert "apt-get install qemu-system-arm gcc-aarch64-linux-gnu libc6-dev-arm64-cross" in err
    assert cli.main(["plan", "--json", "--test", "truth.open"]) == 0


def test_a_kernel_is_selected_by_its_release(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--kernel", "6.12.1-cloud-*"]) == 0
    assert "6.12-auto" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["run", "--kernel", "6.2"],
            "harness: --kernel 6.2: no such kernel in the matrix (did you mean '6.12'?)",
        ),
        (["plan", "--matrix", "no.yaml"], "no.yaml: no such file"),
        (["run", "--matrix", "/"], "/: cannot be read: Is a directory"),
        (["report", "nothing.json"], "harness: nothing.json: cannot be read: No such file or directory"),
        (["run", "-n", "many"], "invalid number of workers 'many' (use auto, or 0 to 999)"),
        (["rum"], "invalid choice: 'rum'"),
        (["run", "--keep"], "unrecognized arguments: --keep"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    matrix: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    try:
        code: object = cli.main(words)
    except SystemExit as ended:
        code = ended.code
    errors = capsys.readouterr().err
    assert code == 2
    assert line in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "harness: more than one kernel matches: 6.1-amd64, 6.12-amd64"),
        (["--put", "nothing"], "harness: --put nothing: no such file"),
        (["--put", "/dev/zero"], "harness: --put /dev/zero: not a regular file"),
        (["--put", "."], "harness: --put .: not a regular file"),
        (
            ["--put", "matrix.yaml", "--put", "./matrix.yaml"],
            "harness: --put matrix.yaml: two files are named matrix.yaml",
        ),
    ],
)
def test_bad_input_of_exec_is_one_line_and_125(
    matrix: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    """Exit codes below 125 are those of the command."""
    assert cli.main(["exec", *words, "--", "true"]) == 125
    assert line in capsys.readouterr().err.splitlines()


def test_an_argument_that_is_not_utf8_is_recorded(matrix: Path) -> None:
    """results.json has the command line, and JSON has no lone surrogates."""
    options = Options(matrix=matrix, output=matrix.parent / "out", argv=("harness", "\udcff"))
    assert run_command.run(options, FakeBench(), Console(file=io.StringIO()), "0") == 0
    assert results_file.load(matrix.parent / "out/latest/results.json").run.argv == ("harness", "\\xdcff")


@pytest.mark.parametrize("words", [["--no-such-option"], ["--maxfail=x"]])
def test_options_that_pytest_refuses_are_a_usage_error(matrix: Path, words: list[str]) -> None:
    options = Options(matrix=matrix, output=matrix.parent / "out")
    with pytest.raises(ConfigError, match="pytest refused its options"):
        run_command.run(options, FakeBench(), Console(file=io.StringIO()), "0", words)


def test_a_folder_whose_name_is_not_utf8_is_refused(matrix: Path) -> None:
    """Before anything is fetched; workers get file names as JSON."""
    options = Options(matrix=matrix, output=matrix.parent / "\udcff")
    with pytest.raises(ConfigError, match="the name is not UTF-8"):
        run_command.run(options, FakeBench(), Console(file=io.StringIO()), "0")


def test_an_output_that_cannot_be_written_is_an_error(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").write_text("a file where a folder should be")
    assert cli.main(["run", "-n", "0"]) == 2
    assert "out/" in capsys.readouterr().err


def test_an_error_cannot_control_the_terminal(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name with an escape sequence may come from another user's file."""
    assert cli.main(["plan", "--kernel", "\x1b[2J"]) == 2
    with pytest.raises(SystemExit):
        cli.main(["run", "-n", "\x1b[2J"])
    errors = capsys.readouterr().err
    assert "\x1b" not in errors
    assert "\\x1b[2J" in errors


def test_a_stream_of_the_c_locale_replaces_what_it_cannot_print(monkeypatch: pytest.MonkeyPatch) -> None:
    """In that locale Python uses another error handler."""
    bytes_out = io.BytesIO()
    out = io.TextIOWrapper(bytes_out, encoding="ascii", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdout", out)
    with streams.steady():
        sys.stdout.write("\u2713 PASS\n")
    assert bytes_out.getvalue() == b"? PASS\n"


@pytest.mark.parametrize(("number", "code"), [(errno.EACCES, 2), (errno.EROFS, 3), (errno.EIO, 3)])
def test_a_file_that_this_user_may_not_use_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    """An error of the disk is none."""

    def refuse(_path: Path) -> None:
        raise OSError(number, os.strerror(number), "/root/x")

    monkeypatch.setattr(results_file, "load", refuse)
    assert cli.main(["report", "x"]) == code
    assert capsys.readouterr().err == f"harness: /root/x: {os.strerror(number)}\n"


def test_a_removed_current_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of the system has no file name."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.main(["plan"]) == 3
    assert capsys.readouterr().err == "harness: the current folder does not exist\n"
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("columns", ["0", "1", "x"])
def test_a_terminal_without_width_hides_no_result(
    matrix: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert cli.main(["plan", "--kernel", "6.1", "--test", "truth.open"]) == 0
    assert "6.1-auto" in capsys.readouterr().out.replace("\n", "")


def test_debug_prints_the_traceback(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code stays the same."""
    assert cli.main(["--debug", "plan", "--kernel", "6.2"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_defect_of_the_harness_is_not_a_failure_of_the_product(
    matrix: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unexpected error exits 3, in one line that names the file with the traceback."""

    def broken(_arguments: object) -> int:
        raise ValueError("a defect\nwith two lines")

    monkeypatch.setattr("tempfile.tempdir", str(matrix.parent))
    monkeypatch.setattr("harness.commands.plan.execute", broken)
    assert cli.main(["plan"]) == 3
    printed = capsys.readouterr().err
    assert printed.startswith("harness: the harness failed: ValueError: a defect with two lines\nhint: ")
    (trace,) = matrix.parent.glob("harness-*.traceback.txt")
    assert str(trace) in printed
    assert "in broken" in trace.read_text()


@pytest.mark.parametrize(("command", "code"), [("plan", 3), ("exec", 125)])
def test_a_package_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, code: int
) -> None:
    """One line with what to type, also if a command cannot even be imported."""
    monkeypatch.setitem(sys.modules, f"harness.commands.{command}", None)
    assert cli.main([command]) == code
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2
    assert printed[0] == f"harness: the Python package harness.commands.{command} is not installed"
    assert "make setup" in printed[1]


def test_reports_are_made_again(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(matrix, {"6.1-auto::truth.open": "fail"})
    latest = matrix.parent / "out/latest"
    (latest / "summary.md").unlink()
    assert cli.main(["report"]) == 1
    assert "✗ FAIL" in (latest / "summary.md").read_text()
    assert "The product failed." in capsys.readouterr().out


def test_results_without_a_planned_test_are_incomplete(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(matrix, {})
    path = matrix.parent / "out/latest/results.json"
    found = results_file.load(path)
    fewer = found.cells[:1]
    path.write_text(
        found.model_copy(update={"cells": fewer, "totals": model.totals(fewer)}).to_json(), "utf-8"
    )
    assert cli.main(["report", str(path)]) == 4
    assert "6.12-auto truth.open: planned, and not in the results" in capsys.readouterr().err


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in cli.COMMANDS)


def test_an_overview_imports_no_command() -> None:
    """Help imports none of pytest, pydantic and rich, which take half a second."""
    code = "import sys; from harness import cli; cli.parser([]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pytest", "pydantic", "rich", "harness.commands"} & set(done.stdout.split())


SHAPE = argparse.Namespace(vcpus=None, cmdline="")


def test_one_machine_needs_one_kernel(plan: Plan) -> None:
    """Two kernels are two machines; the message names both, and the hint how to choose."""
    with pytest.raises(ConfigError, match=r"more than one kernel matches: 5\.10-amd64, 6\.1-amd64"):
        one_machine(plan, SHAPE)


def test_one_machine_is_the_plain_one_of_its_kernel() -> None:
    """If the matrix gives a kernel a command line as well, `exec` uses the machine without it."""
    matrix = matrix_of("6.1", cmdline=[{"name": "quiet", "args": "quiet"}], hooksets=["bcc", "lsm"])
    (cell,) = one_machine(make(matrix, Selectors()), SHAPE).cells
    assert (cell.cmdline, cell.compiles, cell.tests) == (None, False, ())


def test_one_machine_is_shaped_by_its_options() -> None:
    """Words of the option come after those of the matrix, so that they win."""
    matrix = matrix_of(
        "6.1", suites=[{"name": "a", "command": "x", "cmdline": {"name": "q", "args": "quiet"}}]
    )
    shape = argparse.Namespace(vcpus=2, cmdline="lockdown=integrity")
    (cell,) = one_machine(make(matrix, Selectors()), shape).cells
    assert cell.cmdline
    assert (cell.cmdline.args, cell.kernel.vcpus) == ("quiet lockdown=integrity", 2)
    with pytest.raises(ConfigError, match="--cmdline: must be at most 512 printable"):
        one_machine(make(matrix, Selectors()), argparse.Namespace(vcpus=None, cmdline="a\nb"))


@pytest.mark.parametrize(
    "words",
    [
        "run --shard=",
        "run --connect=",
        "run --cluster=",
        "run --resume=",
        "run --keys=",
        "worker --keys=",
        "worker --name=",
        "worker --slots=0",
        "run --mirror=",
        "run --output=",
        "run --matrix=",
        "run --kernel=",
        "run --test=",
        "run --deadline=",
        "run -n=",
        "plan --hookset=",
        "plan --shards=",
        "plan --shards=0",
        "plan --shards=-1",
        "plan --shards=10000",
        "kernels list --flavour=",
        "kernels list --arch=",
        "kernels list --matrix=",
        "kernels lock --mirror=",
        "kernels fetch --connect=",
        "doctor --connect=",
        "merge shard --output=",
        "merge shard --plan= --output=merged",
        "compare old new --output=",
        "report --tables=",
        "repro out cell --output=",
        "repro out cell --test=",
        "clean --keep=",
        "clean --keep=-1",
        "clean --keep=1.5",
        "clean --older-than=",
        "clean --older-than=-1",
        "clean --older-than=nan",
        "clean --older-than=inf",
        "clean --older-than=1e400",
        "shell --cmdline=",
        "shell --vcpus=65",
        "run --output=\udcff",
        "run --connect=\udcff",
        "run --kernel=\udcff",
    ],
)
def test_an_empty_or_invalid_value_is_a_usage_error(
    words: str, matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unset variable of a script must not mean "all", "the default" or "this folder"."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words.split())
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {words.split('=')[0].split()[-1]}" in last.replace("-n/--workers", "-n")
    problems = ("its value is empty", "is not UTF-8", "invalid", "is more than 64")
    assert any(problem in last for problem in problems)


@pytest.mark.parametrize(
    "words",
    [["compare", "", "new"], ["report", ""], ["merge", "", "--output", "x"], ["repro", "out", ""]],
)
def test_an_empty_argument_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It does not mean the current folder."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2
    assert "its value is empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["--nope -- true", "--timeout x -- true", "--kernel none -- true", ""])
def test_a_failure_of_exec_itself_is_125(words: str) -> None:
    """No other code is distinguishable from the command's own."""
    argv = [sys.executable, "-m", "harness.cli", "exec", *words.split()]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 125, done.stderr
    assert "harness" in done.stderr


@pytest.mark.parametrize(
    ("word", "seconds"), [("90", 90.0), ("90s", 90.0), ("1.5s", 1.5), ("15m", 900.0), ("2h", 7200.0)]
)
def test_durations(word: str, seconds: float) -> None:
    assert quantities.seconds(word) == seconds


@pytest.mark.parametrize("word", ["", "0", "-1", "5 m", "m", "1e3", "nan", "٣", "5d"])
def test_an_invalid_duration_is_refused(word: str) -> None:
    """The message shows valid ones."""
    with pytest.raises(ValueError, match="use 90, 15m or 2h"):
        quantities.seconds(word)


def test_sizes_and_counts() -> None:
    assert [quantities.mebibytes(word) for word in ("512", "512M", "2G")] == [512, 512, 2048]
    assert quantities.count("2") == 2
    for parse in (quantities.mebibytes, quantities.count):
        for word in ("0", "two", "-1", "1.5"):
            with pytest.raises(ValueError, match="invalid"):
                parse(word)


def test_a_named_output_folder_is_the_runs_own(matrix: Path) -> None:
    """`--output DIR` has the files of the run; those of an earlier run are removed, others stay."""
    folder = matrix.parent / "named"
    (folder / "cells/6.12-auto").mkdir(parents=True)
    (folder / "plan.json").write_text(Plan(schema=1, cells=()).to_json())
    (folder / "report.html").write_text("of an earlier run")
    (folder / "mine.txt").write_text("not of a run")
    options = Options(matrix=matrix, selectors=Selectors(kernel=("6.1",)), folder=folder)
    run_command.run(options, FakeBench({}), Console(file=io.StringIO()), "0")
    assert [cell.id for cell in results_file.load(folder / "results.json").cells] == ["6.1-auto"]
    assert [path.name for path in (folder / "cells").iterdir()] == ["6.1-auto"]
    assert "of an earlier run" not in (folder / "report.html").read_text()
    assert (folder / "mine.txt").exists()
    assert not (matrix.parent / "out").exists()
