"""The tables of monitors, workloads and policies are complete and consistent."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import pytest

from agent.rules.load import load
from harness.bench import places, policies, trial
from harness.bench.monitors import MONITORS, NONE
from harness.bench.workloads import WORKLOADS
from harness.errors import InfrastructureError
from harness.host import resources
from harness.plan.matrix import Hookset


def test_names_are_unique_and_none_is_first() -> None:
    for table in (MONITORS, WORKLOADS):
        names = [entry.name for entry in table]
        assert len(set(names)) == len(names)
    assert MONITORS[0].name == NONE


def test_every_hook_set_is_measured() -> None:
    """Except bcc, which needs the kernel's headers in the guest."""
    measured = {one.argv[one.argv.index("--hookset") + 1] for one in MONITORS if "--hookset" in one.argv}
    assert measured == {*get_args(Hookset)} - {"auto", "bcc"}


@pytest.mark.parametrize("monitor", MONITORS[1:], ids=lambda one: one.name)
def test_a_line_of_a_monitor_names_the_file(monitor: object) -> None:
    """A pattern compiles with a path in it."""
    line = monitor.line  # type: ignore[attr-defined]
    assert "PATH" in line
    re.compile(line.replace("PATH", re.escape("/a.b/c")))


@pytest.mark.parametrize("policy", [policies.DEFAULT, policies.OPENS, *map(str, policies.COUNTS[:2])])
def test_policies_are_valid_and_match_what_is_watched(policy: str, tmp_path: Path) -> None:
    """And have as many rules as they are called."""
    path = tmp_path / "policy.yaml"
    path.write_text(policies.for_agent(policy, trial.DEFAULTS))
    path.chmod(0o600)
    rules = load([path]).rules
    assert "bench" in rules
    if policy.isdigit():
        assert len(rules) == int(policy)
        assert policies.for_auditd(policy, trial.DEFAULTS).count("-w ") == int(policy)


def test_watches_of_auditd_are_paths_without_patterns() -> None:
    text = policies.for_auditd(policies.DEFAULT, trial.DEFAULTS)
    watches = re.findall(r"^-w (\S+) -p wa -k bench$", text, flags=re.MULTILINE)
    assert "/etc/passwd" in watches
    assert places.WATCHED in watches
    assert not any("*" in path or path.endswith("/") for path in watches)


def test_the_driver_gets_what_it_reads() -> None:
    sent = json.loads(json.dumps(trial.task(MONITORS[1], WORKLOADS)))
    source = trial.DRIVER.read_text()
    for key in re.findall(r'task\["(\w+)"\]', source):
        assert key in sent
    for key in re.findall(r'workload\["(\w+)"\]', source):
        assert key in sent["workloads"][0]


@pytest.mark.parametrize("report", [b"", b"[]", b'{"workloads": 7}', b'{"start_ns": "x"}', b'{"other": 1}'])
def test_a_report_that_is_wrong_is_an_error(report: bytes) -> None:
    with pytest.raises(InfrastructureError, match="report of the driver"):
        trial.read(report, 1, "x")


def test_a_reason_from_the_guest_is_one_short_line() -> None:
    report = json.dumps({"unable": "a\n\x1b[2J" + "b" * 9999}).encode()
    reason = trial.read(report, 1, "x").unable
    assert "\n" not in reason
    assert "\x1b" not in reason
    assert len(reason) <= trial.MAX_REASON


@pytest.fixture(scope="module")
def load_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load of the bench, compiled for this host."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    program = tmp_path_factory.mktemp("load") / "bench-load"
    source = resources.FOLDER / "bench-load.c"
    subprocess.run([compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


@pytest.mark.parametrize(
    "words", [("read", "3"), ("write", "3"), ("create", "3"), ("rename", "4"), ("exec", "2", "0", "true")]
)
def test_the_load_reports_its_costs(load_program: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """And leaves the file that it opened, or renamed twice."""
    path = tmp_path / "file"
    if words[0] != "create":
        path.touch()
    argv = [str(load_program), *words, *([] if words[0] == "exec" else [str(path)])]
    done = subprocess.run(argv, capture_output=True, check=True)
    report = json.loads(done.stdout)
    assert report["wall_ns"] > 0
    assert report["cpu_ns"] > 0
    assert path.exists() == (words[0] != "create")


def test_the_load_waits_for_a_line(load_program: Path, tmp_path: Path) -> None:
    """The monitor is a shell here, which waits for the opening of a pipe."""
    path, output = tmp_path / "late", tmp_path / "output"
    os.mkfifo(tmp_path / "late.0")
    output.write_text("late.0\n")
    script = f"cat {path}.0; echo late.0 >>{output}"
    with subprocess.Popen(["sh", "-c", script]):
        done = subprocess.run([load_program, "latency", "1", path, output], capture_output=True, check=True)
    (latency,) = json.loads(done.stdout)["latency_ns"]
    assert latency > 0


def test_the_load_says_what_failed(load_program: Path) -> None:
    cases = {b"/no/such": ("read", "1", "/no/such"), b"false ended with status": ("run", "false")}
    for reason, words in cases.items():
        done = subprocess.run([str(load_program), *words], capture_output=True, check=False)
        assert done.returncode == 1
        assert reason in done.stderr
