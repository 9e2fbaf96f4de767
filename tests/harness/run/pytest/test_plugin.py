"""A run under pytest, with fake machines that follow a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# An inner pytest forgets what it imported: what is here already keeps its identity.
import harness.run.pytest.controller  # noqa: F401
from agent.selftest.catalogue import CATALOGUE
from harness import cli
from harness.results.model import Results
from harness.results.results_file import load
from harness.results.verdict import Verdict
from harness.run.options import ALL
from harness.run.pytest.worker import CELL_PROPERTY, TEST_PROPERTY

CONFTEST = """
from pathlib import Path
from harness.run.fake import FakeBench

def pytest_harness_bench(config):
    here = Path(__file__).parent
    return FakeBench({script!r}, here / "log")
"""


@dataclass
class Ended:
    """The output, status and files of a pytest run."""

    status: int
    output: str
    results: Results
    events: list[tuple[str, str]]  # (process, what happened)

    def verdicts(self, cell: str) -> Counter[str]:
        found = next(found for found in self.results.cells if found.id == cell)
        return Counter(str(test.verdict) for test in found.tests)

    def processes(self, event: str) -> set[str]:
        return {process for process, what in self.events if what.startswith(event)}


class Project:
    """A folder with a matrix and a script."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.matrix("6.1", "6.12")
        self.script({})

    def matrix(self, *kernels: str) -> None:
        (self.path / "matrix.yaml").write_text("kernels: [" + ", ".join(kernels) + "]\n")

    def script(self, script: dict[str, str]) -> None:
        (self.path / "conftest.py").write_text(CONFTEST.format(script=script))

    def pytest(self, *words: str, apart: bool = False) -> pytest.RunResult:
        (self.path / "log").unlink(missing_ok=True)
        words = ("-p", "harness.commands.pytest_plugin", "-p", "xdist", *words)
        if apart:
            return self.pytester.runpytest_subprocess(*words, timeout=60)
        return self.pytester.runpytest_inprocess(*words)

    def run(self, *words: str, apart: bool = False, matrix: str = "matrix.yaml") -> Ended:
        done = self.pytest(matrix, *words, apart=apart)
        lines = (self.path / "log").read_text().splitlines() if (self.path / "log").exists() else []
        events = [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]
        return Ended(int(done.ret), done.stdout.str(), load(self.path / "out/latest/results.json"), events)


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the plugins of this environment take seconds
    return Project(pytester)


def _plan(path: Path) -> Any:
    return json.loads((path / "out/latest/plan.json").read_text())


@pytest.mark.parametrize("workers", ["0", "2"])
def test_everything_passes_with_one_worker_for_each_machine(project: Project, workers: str) -> None:
    ended = project.run("-n", workers)
    assert (ended.status, ended.results.run.complete) == (0, True)
    for kernel in ("6.1", "6.12"):
        tests = ended.processes(f"test {kernel}-auto")
        assert tests == ended.processes(f"boot {kernel}-amd64") == ended.processes(f"destroy {kernel}-amd64")
        assert len(tests) == 1
    assert len(ended.processes("boot")) == max(1, int(workers))


def test_results_of_a_worker_have_all_fields(project: Project) -> None:
    cell = project.run("-n", "2").results.cells[0]
    assert cell.tests[0].assertions[0].name == "arrived"
    assert cell.tests[0].ledger["open"].generated == 7
    assert cell.hooks[0].type == "lsm"
    assert cell.kernel.packages[0].sha256 == "0" * 64
    assert cell.phases.tests_s > 0


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_crash_costs_one_cell(project: Project, workers: str) -> None:
    project.script({"6.1-auto::approvers.path": "crash"})
    ended = project.run("-n", workers)
    assert ended.status == 1
    assert ended.verdicts("6.1-auto")["CRASH"] == 1
    assert ended.verdicts("6.1-auto")["NOT_RUN"] > 0
    assert set(ended.verdicts("6.12-auto")) == {"PASS"}
    assert "CRASH" in ended.output


def test_a_worker_that_dies_costs_one_test_and_the_rest_runs_elsewhere(project: Project) -> None:
    project.script({"6.1-auto::truth.unlink": "kill-worker"})
    ended = project.run("-n", "2")
    assert ended.status == 4  # the end of the first visit was not checked
    assert ended.verdicts("6.1-auto")["INFRA"] == 1
    assert ended.verdicts("6.1-auto")["PASS"] > 4
    assert set(ended.verdicts("6.12-auto")) == {"PASS"}
    assert len(ended.processes("boot 6.1-amd64")) == 2
    assert "died" in ended.output


def test_a_machine_that_ended_two_workers_is_given_up(project: Project) -> None:
    project.script({"6.1-auto::truth.unlink": "kill-worker", "6.1-auto::approvers.path": "kill-worker"})
    ended = project.run("-n", "2")
    assert ended.status == 4
    assert ended.verdicts("6.1-auto")["INFRA"] == 2
    assert ended.verdicts("6.1-auto")["NOT_RUN"] > 0
    assert set(ended.verdicts("6.12-auto")) == {"PASS"}


def test_a_kernel_that_cannot_be_fetched_is_infrastructure(project: Project) -> None:
    project.script({"6.1-auto::boot": "missing"})
    ended = project.run()
    assert ended.status == 3
    assert set(ended.verdicts("6.1-auto")) == {"INFRA"}
    assert set(ended.verdicts("6.12-auto")) == {"PASS"}


def test_pytests_own_selection_narrows_the_plan(project: Project) -> None:
    ended = project.run("-k", "discarders")
    left = {scenario.name for scenario in CATALOGUE if "discarders" in scenario.name}
    assert ended.status == 0
    assert {test for cell in _plan(project.path)["cells"] for test in cell["tests"]} == left
    assert sum(ended.results.totals.values()) == 2 * len(left)


def test_one_test_by_its_id(project: Project) -> None:
    done = project.pytest("matrix.yaml::6.12-auto::truth.open")
    done.assert_outcomes(passed=1)
    assert done.ret == 0
    assert [cell["id"] for cell in _plan(project.path)["cells"]] == ["6.12-auto"]


def test_the_harness_selectors_work_under_pytest(project: Project) -> None:
    ended = project.run("--matrix-kernel", "6.1", "--matrix-test", "!loss.*")
    assert [cell.id for cell in ended.results.cells] == ["6.1-auto"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_stopping_at_the_first_failure_leaves_the_rest_not_run(project: Project, workers: str) -> None:
    project.script({"*::truth.open": "fail"})
    ended = project.run("-x", "-n", workers)
    assert ended.status == 1
    assert not ended.results.run.complete
    assert ended.results.totals["NOT_RUN"] > 0  # type: ignore[index]
    assert ended.processes("destroy") == ended.processes("boot")


def test_last_failed_runs_only_what_failed(project: Project) -> None:
    project.script({"6.1-auto::truth.open": "fail"})
    project.run()
    project.script({})
    ended = project.run("--lf")
    assert (ended.status, sum(ended.results.totals.values())) == (0, 1)


def test_a_selected_test_that_must_pass_and_is_skipped_fails_the_run(project: Project) -> None:
    """In a narrowed run skips alone prove nothing; one cell that passes is enough."""
    project.script({"*::truth.open": "skip"})
    words = ("--matrix-test", "truth.open", "--matrix-test", "truth.unlink")
    assert project.run(*words).status == 0
    ended = project.run(*words, "--matrix-must-pass")
    assert ended.status == 1
    assert ended.results.run.notes == ("truth.open: passed in no cell: lsm is silent here",)
    project.script({"6.1-auto::truth.open": "skip"})
    assert project.run(*words, "--matrix-must-pass").status == 0


def test_a_skip_has_the_reason_of_the_guest(project: Project) -> None:
    project.script({"6.1-auto::truth.open": "skip"})
    ended = project.run("-rs")
    assert (ended.status, ended.results.cells[0].verdict) == (0, "PASS")
    assert ended.results.totals[Verdict.SKIP] == 1
    assert "lsm is silent here" in ended.output


def test_a_test_that_every_cell_skips_fails_the_run(project: Project) -> None:
    """No cell tried the promise, so it is not proved; the error names the test."""
    project.script({"*::truth.open": "skip"})
    ended = project.run()
    assert ended.status == 1
    line = "truth.open: no cell of the whole run could run it: lsm is silent here"
    assert line in ended.output
    assert ended.results.run.notes == (line,)


@pytest.mark.parametrize("act", ["interrupt", "hup", "term"])
def test_an_interrupt_writes_the_results_and_leaves_nothing(project: Project, act: str) -> None:
    """SIGTERM and SIGHUP as well as Ctrl-C."""
    project.script({"6.1-auto::truth.unlink": act})
    ended = project.run(apart=True)
    assert ended.status == 4
    assert ended.verdicts("6.1-auto")["PASS"] == 1
    assert set(ended.verdicts("6.12-auto")) == {"NOT_RUN"}
    assert ended.processes("destroy") == ended.processes("boot")


def test_a_bad_matrix_is_one_line_and_exit_2(project: Project) -> None:
    (project.path / "matrix.yaml").write_text("kernels: [6.1]\nhookset: [auto]\n")
    done = project.pytest("matrix.yaml", apart=True)
    assert done.ret == 2
    done.stderr.fnmatch_lines(["*matrix.yaml:2: unknown key 'hookset' (did you mean 'hooksets'?)"])
    assert "Traceback" not in done.stderr.str()


def test_collecting_boots_nothing(project: Project) -> None:
    done = project.pytest("matrix.yaml", "--collect-only", "-q")
    assert done.ret == 0
    done.stdout.fnmatch_lines(["matrix.yaml::6.1-auto::truth.open"])
    assert not (project.path / "out").exists()
    assert not (project.path / "log").exists()


def test_other_tests_run_unchanged(project: Project) -> None:
    (project.path / "test_other.py").write_text("def test_it(): assert True\n")
    done = project.pytest("-n", "2")
    done.assert_outcomes(passed=1)
    assert not (project.path / "out").exists()


def test_longest_first_by_the_last_run(project: Project) -> None:
    project.matrix("5.10", "6.1", "6.12")
    (project.path / "out").mkdir()
    (project.path / "out/.times.json").write_text('{"6.12-auto": 300, "5.10-auto": 100, "6.1-auto": 1}')
    ended = project.run("-n", "1")
    boots = [what for _, what in ended.events if what.startswith("boot")]
    assert boots == ["boot 6.12-amd64", "boot 5.10-amd64", "boot 6.1-amd64"]


def test_a_failure_that_passes_again_is_flaky_with_both_attempts(project: Project) -> None:
    project.script({"6.1-auto::truth.open": "fail,pass"})
    ended = project.run()
    assert (ended.status, ended.verdicts("6.1-auto")["FLAKY"]) == (1, 1)
    test = ended.results.cells[0].tests[0]
    assert [attempt.verdict for attempt in test.attempts] == ["FAIL", "PASS"]
    assert not test.assertions[0].ok
    assert "attempt 2: PASS" in (project.path / "out/latest/junit.xml").read_text()


def test_an_expected_failure_is_run_once(project: Project) -> None:
    known = "{test: truth.open, reason: why, link: where, until: 2999-12-31}"
    (project.path / "expectations.yaml").write_text(f"expected_failures:\n  - {known}\n")
    project.script({"*::truth.open": "fail"})
    ended = project.run()
    assert (ended.status, ended.verdicts("6.1-auto")["XFAIL"]) == (0, 1)
    assert sum(what == "test 6.1-auto truth.open" for _, what in ended.events) == 1


@pytest.mark.parametrize(("test", "verdict", "status"), [("truth.open", "FAIL", 1), ("'*'", "XFAIL", 0)])
def test_a_load_that_fails_is_expected_only_for_all_tests(
    project: Project, test: str, verdict: str, status: int
) -> None:
    """An entry for one test covers what that test finds: without an agent the test found nothing."""
    known = f"{{test: {test}, reason: why, link: where, until: 2999-12-31}}"
    (project.path / "expectations.yaml").write_text(f"expected_failures:\n  - {known}\n")
    project.script({"*::load": "refuse"})
    ended = project.run("--matrix-kernel", "6.1", "--matrix-test", "truth.open")
    assert (ended.status, ended.verdicts("6.1-auto")) == (status, {verdict: 1})


def test_a_complaint_of_the_kernel_fails_the_run_unless_it_is_allowed(project: Project) -> None:
    project.script({"6.1-auto::truth.open": "splat", "6.12-auto::load": "splat"})
    ended = project.run()
    assert ended.status == 1
    assert [cell.verdict for cell in ended.results.cells] == ["SPLAT", "SPLAT"]
    assert ended.results.cells[0].fingerprint == "warning: perf_thing"
    known = "{splat: perf_thing, reason: why, link: where, until: 2999-12-31}"
    (project.path / "expectations.yaml").write_text(f"allowed_splats:\n  - {known}\n")
    ended = project.run()
    assert (ended.status, ended.results.run.notes) == (0, ())
    assert ended.results.cells[0].tests[0].splats[0].allowed.startswith("why (where)")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_ids_can_be_pasted_back(project: Project, workers: str) -> None:
    """`pytest -v` prints the ids that its command line accepts."""
    done = project.pytest("matrix.yaml", "-v", "-n", workers, "-k", "truth.open")
    assert "matrix.yaml::6.1-auto::truth.open " in done.stdout.str()
    assert "6::1" not in done.stdout.str()


def test_only_the_kernel_of_a_pasted_id_is_fetched(project: Project) -> None:
    ended = project.run(matrix="matrix.yaml::6.12-auto::truth.open")
    assert ended.status == 0
    assert "6.12-amd64  fetching" in ended.output
    assert "6.1-amd64  fetching" not in ended.output


def test_a_cell_is_an_id_as_well(project: Project) -> None:
    ended = project.run(matrix="matrix.yaml::6.12-auto")
    assert (ended.status, [cell.id for cell in ended.results.cells]) == (0, ["6.12-auto"])


def test_an_unknown_id_is_an_error_of_usage(project: Project) -> None:
    done = project.pytest("matrix.yaml::6.12-auto::truth.opne", apart=True)
    assert done.ret == 2
    assert "not in the plan (did you mean '6.12-auto::truth.open'?)" in done.stderr.str()


def test_a_run_without_xdist_works(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options of xdist do not exist then."""
    done = project.pytester.runpytest_inprocess(
        "-p", "no:xdist", "-p", "harness.commands.pytest_plugin", "matrix.yaml", "-k", "truth.open"
    )
    assert done.parseoutcomes()["passed"] == 2


def test_the_matrix_may_be_in_another_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a path that contains `..`, with and without workers."""
    (project.path / "elsewhere").mkdir()
    monkeypatch.chdir(project.path / "elsewhere")
    for workers in ("0", "2"):
        done = project.pytest("../matrix.yaml", "-n", workers, "-k", "truth.open")
        assert done.parseoutcomes()["passed"] == 2


@pytest.mark.parametrize("name", ["other.yaml", "playbook.yml"])
def test_a_yaml_file_that_is_no_matrix_is_not_collected(project: Project, name: str) -> None:
    (project.path / name).write_text("hosts: all\nspecial_kernels: []\n")
    (project.path / "conftest.py").write_text(
        "import pytest\n"
        "class Item(pytest.Item):\n    def runtest(self): pass\n"
        "class File(pytest.File):\n    def collect(self): yield Item.from_parent(self, name='it')\n"
        "def pytest_collect_file(file_path, parent):\n"
        f"    return File.from_parent(parent, path=file_path) if file_path.name == {name!r} else None\n"
    )
    (project.path / "test_other.py").write_text("def test_it(): assert True\n")
    project.pytest("test_other.py", name).assert_outcomes(passed=2)
    assert not (project.path / "out").exists()


def test_a_fifo_is_no_matrix_and_is_not_waited_for(project: Project) -> None:
    """A file that is too large is no matrix either."""
    os.mkfifo(project.path / "pipe.yaml")
    (project.path / "large.yaml").write_text("kernels: [6.1]\n" + "#" * (1 << 20))
    argv = [sys.executable, "-m", "pytest", "pipe.yaml", "large.yaml", "--collect-only", "-q"]
    done = subprocess.run(argv, cwd=project.path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert not (project.path / "out").exists()


def test_a_matrix_may_have_another_name(project: Project) -> None:
    """It is recognised by its key `kernels`."""
    (project.path / "matrix.yaml").rename(project.path / "small.yaml")
    assert project.run(matrix="small.yaml").status == 0


@pytest.mark.parametrize("workers", ["0", "2"])
def test_other_tests_run_beside_the_matrix(project: Project, workers: str) -> None:
    """One that fails fails the run; also in a file whose name ends like the matrix's."""
    other = "class TestIt:\n    def test_it(self): assert True\n    def test_not(self): assert False\n"
    (project.path / "test_other.py").write_text(other)
    done = project.pytest("test_other.py", "matrix.yaml", "-k", "TestIt or truth.open", "-n", workers)
    outcomes = done.parseoutcomes()
    assert (outcomes["passed"], outcomes["failed"]) == (3, 1)
    assert done.ret == 1
    found = load(project.path / "out/latest/results.json")
    assert set(found.scenarios) == {test.name for cell in found.cells for test in cell.tests}
    assert found.run.exit_code == 1
    assert any("test_other.py::TestIt::test_not" in note for note in found.run.notes)
    assert [test.name for cell in found.cells for test in cell.tests] == ["truth.open"] * 2


def test_other_tests_decide_where_nothing_of_the_matrix_is_selected(project: Project) -> None:
    (project.path / "test_other.py").write_text("def test_it(): assert True\n")
    done = project.pytest("test_other.py", "matrix.yaml", "-k", "test_it")
    assert (done.ret, done.parseoutcomes()["passed"]) == (0, 1)


def test_junit_of_pytest_names_cells_and_tests(project: Project) -> None:
    project.run("--junitxml", "mine.xml", "-k", "truth.open")
    assert 'classname="matrix.yaml.6.1-auto" name="truth.open"' in (project.path / "mine.xml").read_text()


def test_a_plugin_that_a_test_beside_the_matrix_started_is_not_killed(project: Project) -> None:
    """An interrupt ends the workers, and no other child process of pytest."""
    (project.path / "conftest.py").write_text(
        CONFTEST.format(script={"6.1-auto::truth.open": "fail"}) + "import subprocess\n"
        "def pytest_configure(config):\n"
        "    if not hasattr(config, 'workerinput'): config.child = subprocess.Popen(['sleep', '60'])\n"
        "def pytest_unconfigure(config):\n"
        "    if not hasattr(config, 'workerinput'):\n"
        "        (here / 'child').write_text(str(config.child.poll()))\n"
        "        config.child.kill(); config.child.wait()\n"
        "here = Path(__file__).parent\n"
    )
    ended = project.run("-x", "-n", "2", apart=True)
    assert ended.status == 1
    assert (project.path / "child").read_text() == "None"


def test_the_options_of_a_run_are_those_of_pytest() -> None:
    """Each option of the table belongs to `harness run` and to pytest, with the same default."""
    ours = cli.parser(["run"]).parse_args(["run"])
    for option in ALL:
        assert getattr(ours, option.attribute) == option.settings.get("default", None) or (
            option.settings.get("action") == "store_true" and getattr(ours, option.attribute) is False
        )
    shown = {option.pytest_flag for option in ALL}
    assert {"--matrix-kernel", "--matrix-cold", "--matrix-deadline", "--matrix-output"} <= shown


def test_every_option_is_passed_on(project: Project) -> None:
    """Also an output folder, a shard and a deadline, which are no options of pytest's own."""
    project.pytest(
        "matrix.yaml", "--matrix-output", "named", "--matrix-shard", "1/2", "--matrix-deadline", "5m"
    )
    found = load(project.path / "named/results.json")
    assert len(found.cells) == 1
    assert found.run.exit_code == 0


SPY = """
from pathlib import Path

SEEN = Path(__file__).with_name("seen")

def pytest_runtest_logreport(report):
    with SEEN.open("a") as file:
        file.writelines(f"{report.when} {name}\\n" for name, _ in report.user_properties)

def pytest_sessionfinish(session):
    with SEEN.open("a") as file:
        file.writelines(f"kept {name}\\n" for item in session.items for name, _ in item.user_properties)
"""


def test_a_result_is_sent_with_one_report_and_not_kept(project: Project) -> None:
    """A large run has hundreds of megabytes. The report of a cell is sent when it was opened and closed."""
    project.matrix("6.1")
    with (project.path / "conftest.py").open("a") as file:
        file.write(SPY)
    results = project.run("-n", "0").results
    seen = Counter((project.path / "seen").read_text().splitlines())
    tests = len(results.cells[0].tests)
    assert seen == {
        f"call {TEST_PROPERTY}": tests,
        f"teardown {CELL_PROPERTY}": seen[f"teardown {CELL_PROPERTY}"],
    }
    assert 1 <= seen[f"teardown {CELL_PROPERTY}"] <= 2
