"""`suites:` of a matrix: programs of another project, with the verdicts and reports of the agent's tests."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.commands import run as run_command
from harness.errors import ConfigError
from harness.guest.base import Completed
from harness.guest.command import CommandServer, judged
from harness.guest.fake import FakeGuest
from harness.plan import checked as config
from harness.plan import suites, yaml
from harness.plan.cells import Cell
from harness.plan.matrix import Matrix, Suite
from harness.plan.plan import Selectors, make
from harness.results import model
from harness.results.model import TestResult
from harness.run import judge
from harness.run.fake import FakeBench
from harness.run.run import Options
from tests.harness.conftest import matrix_of

SUITE = {"name": "example", "files": ["bin/run.sh"], "command": ["./run.sh", "--all"]}


def _ids(matrix: Matrix, **selectors: tuple[str, ...]) -> list[str]:
    return [cell.id for cell in make(matrix, Selectors(**selectors)).cells]


def test_a_suite_is_a_column_beside_the_hook_sets() -> None:
    matrix = matrix_of("6.1", "6.12", hooksets=["lsm"], suites=[SUITE])
    plan = make(matrix, Selectors())
    assert [cell.id for cell in plan.cells] == ["6.1-lsm", "6.1-example", "6.12-lsm", "6.12-example"]
    assert plan.cell("6.1-example").tests == ("command.example",)
    assert len(plan.machines()) == 2
    assert plan.exercise == ("lsm",)


def test_a_matrix_of_suites_has_nothing_of_the_agent() -> None:
    assert _ids(matrix_of("6.1", suites=[SUITE])) == ["6.1-example"]


def test_a_suite_is_selected_like_anything_else() -> None:
    late = {"name": "late", "command": "true", "kernel": "6.12", "tags": ["nightly"]}
    matrix = matrix_of("6.1", "6.12", hooksets=["lsm"], suites=[SUITE, late])
    assert _ids(matrix, test=("command.*",)) == ["6.1-example", "6.12-example"]
    assert _ids(matrix, hookset=("example",), kernel=("6.1",)) == ["6.1-example"]
    assert _ids(matrix, test=("truth.open", "!command.*")) == ["6.1-lsm", "6.12-lsm"]
    assert _ids(matrix, test=("command.late",), tag=("nightly",)) == ["6.12-late"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{name: lsm, command: x}", "m.yaml:2: suite 'lsm': there is another, or a hook set, of that name"),
        ("{name: a, command: x, files: /etc/shadow}", "/etc/shadow: must lie below the matrix"),
        ("{name: a, command: x, files: [a/../../b]}", "a/../../b: must lie below the matrix"),
        ("{name: a, command: x, files: [a/b, c/b]}", "two files are called b"),
        ("{name: a, comand: x}", "unknown key 'comand' (did you mean 'command'?)"),
        ("{name: a, command: x, timeout: -1}", "timeout"),
        ("{name: a, command: []}", "must not be empty"),
    ],
)
def test_a_suite_that_cannot_be_is_one_line(text: str, line: str) -> None:
    document = yaml.parse(f"kernels: ['6.1']\nsuites: [{text}]\n".encode(), "m.yaml")
    with pytest.raises(ConfigError) as caught:
        config.check(document)
    assert line in caught.value.message


def _judge(status: int, stdout: bytes = b"", stderr: bytes = b"", *, tap: bool = False) -> TestResult:
    ran = judged("command.a", Completed(status, stdout, stderr), 1.0, tap=tap)
    return judge.result_of("command.a", ran)


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "verdict", "reason"),
    [
        (0, b"fine\n", b"", "PASS", ""),
        (77, b"no fentry here\n", b"", "SKIP", "no fentry here"),
        (77, b"", b"", "SKIP", "it gave no reason"),
        (1, b"counted 3, expected 7\n", b"", "FAIL", "exit status 1: counted 3, expected 7"),
        (1, b"out\n", b"libbpf: failed\n", "FAIL", "exit status 1: libbpf: failed"),
        (139, b"", b"", "FAIL", "killed by signal 11 (SIGSEGV)"),
        (127, b"", b"env: no such file\n", "FAIL", "exit status 127: env: no such file"),
    ],
)
def test_the_exit_status_is_the_verdict(
    status: int, stdout: bytes, stderr: bytes, verdict: str, reason: str
) -> None:
    found = _judge(status, stdout, stderr)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_tap_lines_are_assertions() -> None:
    text = b"1..3\nok 1 - loads\nnot ok 2 - counts\nok 3 # skip no hook\n"
    found = _judge(0, text, tap=True)
    assert (found.verdict, found.reason) == ("FAIL", "not ok: counts")
    assert [row.ok for row in found.assertions] == [True, True, False, True, True]


@pytest.mark.parametrize("text", [b"ok 1\n", b"1..2\nok 1\n", b""])
def test_tap_that_was_cut_short_is_no_pass(text: bytes) -> None:
    assert _judge(0, text, tap=True).verdict == "FAIL"


def test_what_a_command_prints_is_kept_and_its_files_lie_beside_each_other(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run.sh").write_text("#!/bin/sh\n")
    dmesg = b"[ 1.0] before\n[ 2.0] agent selftest: begin command.example\n[ 3.0] during\n"
    said = {"dmesg": Completed(0, dmesg, b"")}
    guest = FakeGuest(lambda argv: said.get(argv[0], Completed(0, b"out", b"err")))
    suite = Suite.model_validate(SUITE)
    server = CommandServer(guest, suite, tmp_path, tmp_path / "log")
    cell = Cell.model_validate({"id": "x", "kernel": {"name": "6.1", "series": "6.1"}})
    server.load(cell, 1.0)
    ran = server.test("command.example", 1.0)
    assert ran.log == ("[ 2.0] agent selftest: begin command.example", "[ 3.0] during")
    assert guest.files["/root/suites/example/run.sh"] == b"#!/bin/sh\n"
    assert guest.commands[1][3:] == ("command.example", "/root/suites/example", "./run.sh", "--all")
    assert (tmp_path / "log").read_bytes() == b"outerr"


def _run(tmp_path: Path, script: dict[str, str], extra: str = "") -> tuple[int, model.Results, list[str]]:
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text(
        f"kernels: ['6.1']\nsuites: [{{name: example, command: ./run.sh, files: run.sh}}]\n{extra}"
    )
    (tmp_path / "run.sh").touch()
    options = Options(matrix=matrix, output=tmp_path / "out")
    bench = FakeBench(script, tmp_path / "log")
    code = run_command.run(options, bench, Console(file=io.StringIO()), "0")
    events = [line.partition(" ")[2] for line in (tmp_path / "log").read_text().splitlines()]
    return code, model.load(tmp_path / "out/latest/results.json"), events


def test_a_suite_has_the_verdicts_of_any_test(tmp_path: Path) -> None:
    code, found, events = _run(tmp_path, {"*::command.example": "crash"})
    assert (code, found.cells[0].verdict, found.cells[0].hookset) == (1, "CRASH", "example")
    assert "deploy 6.1-amd64" not in events


def test_the_agent_is_deployed_where_a_machine_has_cells_of_both(tmp_path: Path) -> None:
    code, found, events = _run(tmp_path, {}, "hooksets: [lsm, kprobe]\n")
    assert (code, len(found.cells)) == (0, 3)
    assert events.count("deploy 6.1-amd64") == events.count("boot 6.1-amd64") == 1


def test_a_suite_is_expected_to_fail_like_any_test(tmp_path: Path) -> None:
    entry = "{test: command.*, when: {hookset: example}, reason: r, link: l, until: 2099-01-01}"
    (tmp_path / "expectations.yaml").write_text(f"expected_failures: [{entry}]\n")
    code, found, _ = _run(tmp_path, {"*::command.example": "fail"})
    assert (code, found.cells[0].verdict) == (0, "XFAIL")


def test_a_file_that_is_not_there_is_said_before_anything_boots(tmp_path: Path) -> None:
    plan = make(matrix_of("6.1", suites=[SUITE]), Selectors())
    with pytest.raises(ConfigError, match=r"bin/run\.sh: no such file"):
        suites.check(plan, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run.sh").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="a link leads it out"):
        suites.check(plan, tmp_path)
