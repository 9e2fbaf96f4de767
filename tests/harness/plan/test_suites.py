"""`suites:` of a matrix: programs of another project, with the verdicts and reports of the agent's tests."""

from __future__ import annotations

import io
import math
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness import cli
from harness.commands import run as run_command
from harness.errors import ConfigError, HungError
from harness.guest.base import (
    STDOUT,
    Completed,
    Guest,
    GuestError,
    GuestLostError,
    GuestTimeoutError,
    Output,
)
from harness.lab import command
from harness.lab.command import CommandServer, judged
from harness.plan import checked as config
from harness.plan import suites, yaml
from harness.plan.cells import Cell
from harness.plan.matrix import Matrix, Suite, validate
from harness.plan.plan import Selectors, make
from harness.results import model, results_file
from harness.results.model import TestResult
from harness.run import judge
from harness.run.fake import FakeBench
from harness.run.run import Options
from tests.harness.conftest import matrix_of
from tests.harness.guest.fake import FakeGuest

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
        (
            "{name: lsm, command: x}",
            "m.yaml:2: suite 'lsm': another suite or a hook set has this name; choose another",
        ),
        ("{name: a, command: x, files: /etc/shadow}", "/etc/shadow: must be below the folder of the matrix"),
        ("{name: a, command: x, files: [a/../../b]}", "a/../../b: must be below the folder of the matrix"),
        ("{name: a, command: x, files: [a/b, c/b]}", "two files are named b"),
        ("{name: a, comand: x}", "unknown key 'comand' (did you mean 'command'?)"),
        ("{name: a, command: x, timeout: -1}", "timeout: invalid duration '-1' (use 90, 15m or 2h)"),
        ("{name: a, command: x, timeout: 5 minutes}", "invalid duration '5 minutes' (use 90, 15m or 2h)"),
        ("{name: a, command: x, timeout: 99h}", "timeout: '99h' is more than 86400"),
        ("{name: a, command: []}", "must not be empty"),
    ],
)
def test_an_invalid_suite_is_one_line(text: str, line: str) -> None:
    document = yaml.parse(f"kernels: ['6.1']\nsuites: [{text}]\n".encode(), "m.yaml")
    with pytest.raises(ConfigError) as caught:
        config.check(document)
    assert line in caught.value.message


def _judge(status: int, stdout: bytes = b"", stderr: bytes = b"", *, tap: bool = False) -> TestResult:
    ran = judged("command.a", Completed(status, stdout, stderr), 1.0, tap_output=tap)
    return judge.result_of("command.a", ran)


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "verdict", "reason"),
    [
        (0, b"fine\n", b"", "PASS", ""),
        (77, b"no fentry here\n", b"", "SKIP", "no fentry here"),
        (77, b"", b"", "SKIP", "no reason given"),
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


def test_a_timeout_is_a_duration() -> None:
    assert Suite.model_validate({**SUITE, "timeout": "5m"}).timeout == 300.0


def test_a_status_that_is_not_0_fails_whatever_tap_says() -> None:
    """Status 77 is a skip only if no point failed."""
    assert _judge(1, b"1..1\nok 1\n", tap=True).reason == "exit status 1: ok 1"
    assert _judge(1, b"1..0 # SKIP x\n", tap=True).verdict == "FAIL"
    assert _judge(77, b"1..1\nnot ok 1 - a\n", tap=True).verdict == "FAIL"
    assert _judge(77, b"1..1\nok 1 - a\nBail out! gone\n", tap=True).verdict == "FAIL"
    skipped = _judge(77, b"no BTF here\n", tap=True)
    assert (skipped.verdict, skipped.reason) == ("SKIP", "no BTF here")


CELL = Cell.model_validate({"id": "x", "kernel": {"name": "6.1", "series": "6.1"}})
DMESG = b"[ 1.0] before\n[ 2.0] agent selftest: begin command.example\n[ 3.0] during\n"


class Commanded(FakeGuest):
    """A guest whose suite prints `pieces` in turn; one that is an exception is raised."""

    def __init__(self, *pieces: bytes | Exception, status: int = 0) -> None:
        super().__init__(lambda argv: Completed(0, DMESG if argv[0] == "dmesg" else b"", b""))
        self._pieces = pieces
        self._status_of_suite = status

    def stream(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        timeout_s: float = math.inf,
        stdin: int | None = None,
        name: str = "",
    ) -> int:
        self.commands.append((*argv, name))
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            output(STDOUT, piece)
        return self._status_of_suite


def _never(_deadline_s: float) -> Guest:
    raise AssertionError("the suite has no reboots")


def _server(
    guest: FakeGuest, folder: Path, reboot: Callable[[float], Guest] = _never, **suite: object
) -> CommandServer:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/run.sh").write_text("#!/bin/sh\n")
    (folder / "bin/run.sh").chmod(0o755)
    return CommandServer(guest, Suite.model_validate({**SUITE, **suite}), folder, folder / "log", reboot)


def test_a_command_runs_beside_its_files_and_its_output_is_kept(tmp_path: Path) -> None:
    """The kernel log of the test has its own lines only, and the command runs under its own name."""
    guest = Commanded(b"out")
    server = _server(guest, tmp_path)
    server.load(CELL, 1.0)
    ran = server.test("command.example", 1.0)
    assert ran.log == ("[ 2.0] agent selftest: begin command.example", "[ 3.0] during")
    with tarfile.open(fileobj=io.BytesIO(guest.files["/tmp/fim-suite.tar"])) as tar:
        assert [(one.name, one.mode) for one in tar] == [("run.sh", 0o755)]
    command = guest.commands[1]
    assert command[3:] == ("command.example", "/root/suites/example", "./run.sh", "--all", "./run.sh --all")
    assert (tmp_path / "log").read_bytes() == b"out"


@pytest.mark.parametrize("end", [GuestLostError("gone"), GuestTimeoutError("late")])
def test_output_is_kept_however_the_suite_ends(tmp_path: Path, end: GuestError) -> None:
    """The output of a suite that hangs or panics is evidence."""
    server = _server(Commanded(b"step 1\n", b"step 2\n", end), tmp_path)
    with pytest.raises(type(end)):
        server.test("command.example", 60.0)
    assert (tmp_path / "log").read_bytes() == b"step 1\nstep 2\n"


@pytest.mark.parametrize(
    ("timeout", "deadline_s", "reason"),
    [
        (
            "10",
            80.0,
            "./run.sh --all did not end within 80 s (timeout: 10 s, stretched 8.0 times for a slow guest or "
            "a busy host); last line: step 1",
        ),
        ("5m", 300.0, "./run.sh --all did not end within 300 s; last line: step 1"),
    ],
)
def test_the_reason_of_a_timeout_has_the_deadline(
    tmp_path: Path, timeout: str, deadline_s: float, reason: str
) -> None:
    """With the factor that stretched it, the command's name and its last output."""
    server = _server(Commanded(b"step 1\n", GuestTimeoutError("late")), tmp_path, timeout=timeout)
    with pytest.raises(GuestTimeoutError) as caught:
        server.test("command.example", deadline_s)
    assert caught.value.message == reason


def test_a_suite_that_prints_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory and disk stay bounded, and the verdict has the reason."""
    monkeypatch.setattr(command, "MAX_OUTPUT", 1 << 20)
    chunk = b"y\n" * (1 << 15)
    ran = _server(Commanded(*[chunk] * 100), tmp_path).test("command.example", 60.0)
    assert (ran.verdict, ran.reason) == ("FAIL", "./run.sh --all printed more than 1 MiB and was stopped")
    assert (tmp_path / "log").stat().st_size == 1 << 20


def test_a_hanging_suite_does_not_blame_the_agent() -> None:
    """A suite's guest has no agent."""
    error = HungError("./run.sh did not end within 80 s", program="the command")
    attempt = judge.classify(error, None, booting=False, answers=True)
    assert attempt.reason == "./run.sh did not end within 80 s; the guest answers: the command hung"


def _members(folder: Path, *files: str) -> list[str]:
    return [*suites.members(Suite.model_validate({**SUITE, "files": files}), folder)]


def test_files_may_be_folders_and_globs(tmp_path: Path) -> None:
    """A folder keeps its name and its tree; the files of a glob are placed beside the others."""
    for name in ("bin/a.o", "bin/b.o", "bin/c.txt", "data/deep/one", "data/two", "run.sh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = _members(tmp_path, "run.sh", "bin/*.o", "data")
    assert found == ["run.sh", "a.o", "b.o", "data/two", "data/deep/one"]


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (["bin/*.so"], r"bin/\*.so: no file matches"),
        (["none"], "none: no such file or folder"),
        (["bin", "lib/bin"], "have the same name in the guest"),
        (["out"], "out/passwd: is a link that leads outside"),
        (["dirs"], "dirs/tree: is a link that leads outside"),
        (["loop"], "loop/self: neither a file nor a folder of files"),
        (["pipe"], "pipe: neither a file nor a folder of files"),
        (["broken"], "broken/link: no such file"),
        (["/etc/passwd"], "/etc/passwd: must be below the folder"),
        (["/etc/*"], r"/etc/\*: must be below the folder"),
        (["bin/../../x"], "bin/../../x: must be below the folder"),
    ],
)
def test_files_that_cannot_be_sent_are_refused(tmp_path: Path, files: list[str], line: str) -> None:
    """Before any machine boots, with their names."""
    for name in ("bin/x", "lib/bin/x", "out/y", "dirs/y", "loop/y", "broken/y"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "out/passwd").symlink_to("/etc/passwd")
    (tmp_path / "dirs/tree").symlink_to("/etc")
    (tmp_path / "loop/self").symlink_to(".")
    (tmp_path / "broken/link").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=line):
        _members(tmp_path, *files)


@pytest.mark.parametrize("place", ["run.sh", "folder/pipe"])
def test_the_plan_refuses_a_file_that_cannot_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    """A FIFO or a device; a file that does not exist may be built before the run."""
    monkeypatch.chdir(tmp_path)
    top = place.split("/")[0]
    text = f"kernels: [6.1]\nsuites: [{{name: s, files: [{top}], command: [./run.sh]}}]\n"
    Path("matrix.yaml").write_text(text)
    assert cli.main(["plan"]) == 0
    Path(place).parent.mkdir(exist_ok=True)
    os.mkfifo(place)
    capsys.readouterr()
    assert cli.main(["plan"]) == 2
    assert f"harness: {place}: neither a file nor a folder of files" in capsys.readouterr().err


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest keeps the files in its memory."""
    (tmp_path / "data").mkdir()
    for number in range(4):
        (tmp_path / f"data/{number}").write_bytes(b"x" * 100)
    monkeypatch.setattr(suites, "MAX_FILES", 3)
    with pytest.raises(ConfigError, match="its files are more than 3 files"):
        _members(tmp_path, "data")


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
    return code, results_file.load(tmp_path / "out/latest/results.json"), events


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


def test_a_missing_file_is_an_error_before_anything_boots(tmp_path: Path) -> None:
    plan = make(matrix_of("6.1", suites=[SUITE]), Selectors())
    with pytest.raises(ConfigError, match=r"bin/run\.sh: no such file or folder"):
        suites.check(plan, tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/run.sh").symlink_to("/etc/hostname")
    with pytest.raises(ConfigError, match="is a link that leads outside"):
        suites.check(plan, tmp_path)


class Rebooting(Commanded):
    """A guest whose suite ends with one status after the other."""

    def __init__(self, statuses: Iterator[int]) -> None:
        super().__init__(b"out\n")
        self._statuses = statuses

    def stream(self, argv: Sequence[str], output: Output, **rest: Any) -> int:
        """Run the suite, as `Commanded` does."""
        super().stream(argv, output, **rest)
        return next(self._statuses)


@pytest.mark.parametrize(
    ("reboots", "statuses", "boots", "status"),
    [
        (2, [76, 76, 0], ["FIM_BOOT=1", "FIM_BOOT=2", "FIM_BOOT=3"], 0),
        (2, [76, 1], ["FIM_BOOT=1", "FIM_BOOT=2"], 1),
        (1, [76, 76], ["FIM_BOOT=1", "FIM_BOOT=2"], 76),
        (1, [0], ["FIM_BOOT=1"], 0),
    ],
)
def test_a_suite_runs_again_after_each_reboot(
    tmp_path: Path, reboots: int, statuses: list[int], boots: list[str], status: int
) -> None:
    """It requests them by its exit status; one more than it may request is a failure."""
    guest = Rebooting(iter(statuses))
    deadlines: list[float] = []

    def reboot(deadline_s: float) -> Guest:
        deadlines.append(deadline_s)
        return guest

    server = _server(guest, tmp_path, reboot, root="debian-12", reboots=reboots)
    ran = server.test("command.example", 60.0)
    commands = [words for words in guest.commands if words[0] == "env"]
    assert [words[1] for words in commands] == boots
    assert ran.assertions[0]["got"] == status
    assert (tmp_path / "log").read_bytes() == b"out\n" * len(boots)
    assert len(deadlines) == len(boots) - 1
    assert all(0 < one <= 60.0 for one in deadlines)


def test_a_suite_without_reboots_may_end_with_any_status(tmp_path: Path) -> None:
    """Then the status that requests a reboot is a failure like any other."""
    guest = Rebooting(iter([76]))
    assert _server(guest, tmp_path).test("command.example", 60.0).verdict == "FAIL"
    assert not any("FIM_BOOT" in word for words in guest.commands for word in words)


def test_a_suite_with_a_root_has_a_machine_of_its_own() -> None:
    """Cells that share kernel and command line, but not the root, share no machine."""
    suites_ = [SUITE, {**SUITE, "name": "served", "root": "debian-12"}]
    plan = make(matrix_of("6.1", suites=suites_), Selectors())
    assert [(cell.root, cell.machine) for cell in plan.cells] == [
        ("", "6.1-amd64"),
        ("debian-12", "6.1-amd64-debian-12"),
    ]


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"reboots": "1"}, "reboots needs a root with a disk: add root: debian-12"),
        ({"root": "debian-12", "arch": ["arm64"]}, "root debian-12 exists for amd64 only"),
        ({"root": "debian-11"}, "unknown value 'debian-11'"),
        ({"root": "debian-12", "reboots": "17"}, "'17' is more than 16"),
    ],
)
def test_a_root_that_does_not_fit_is_one_line(keys: dict[str, object], problem: str) -> None:
    """The line has the place and the remedy."""
    document = yaml.Document("m.yaml", {"kernels": ["6.1"], "suites": [{**SUITE, **keys}]})
    with pytest.raises(ConfigError) as caught:
        validate(Matrix, document)
    assert problem in caught.value.message
    assert "\n" not in caught.value.message
