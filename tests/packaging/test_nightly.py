"""The nightly's issue: what opens, updates and closes it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT

PROGRAM = ROOT / "packaging/nightly.py"
JOBS = ("plan", "shard (1/2)", "shard (2/2)", "report", "suite (mutants)", "suite (faults)")
FINE = dict.fromkeys(JOBS, "success")


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("nightly", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["nightly"] = module
    spec.loader.exec_module(module)
    return module


nightly = _loaded()


def cell(name: str, verdict: str, **tests: str) -> dict[str, Any]:
    rows = [{"name": f"truth.{test}", "verdict": word, "reason": "because"} for test, word in tests.items()]
    return {"id": name, "verdict": verdict, "reason": "of the cell", "tests": rows}


def results(*cells: dict[str, Any], code: int = 0) -> dict[str, Any]:
    return {"run": {"exit_code": code, "notes": []}, "cells": list(cells)}


GOOD = results(cell("6.1-auto", "PASS", open="PASS"))


def found(now: dict[str, Any] | None, before: dict[str, Any] | None, **jobs: str) -> list[str]:
    ended = FINE | {name.replace("_", " "): word for name, word in jobs.items()}
    return [one.key for one in nightly.findings(nightly.Night(ended, now), before)]


def test_a_good_night_has_no_findings() -> None:
    assert found(GOOD, GOOD) == []
    assert found(GOOD, None) == []


def test_a_first_night_that_fails_is_found() -> None:
    """Without an earlier night to compare with it is a failure all the same."""
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    assert found(bad, None, report="failure") == ["6.1-auto truth.open FAIL"]


def test_a_new_kernel_that_fails_is_found() -> None:
    """From its first night, although the night before has no such cell."""
    bad = results(*GOOD["cells"], cell("8.0-auto", "CRASH", open="CRASH"), code=1)
    assert found(bad, GOOD) == ["8.0-auto truth.open CRASH"]


def test_a_known_failure_is_found_again() -> None:
    """Its issue stays open, without a new comment."""
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    assert found(bad, bad) == ["6.1-auto truth.open FAIL"]


@pytest.mark.parametrize("verdict", ["INFRA", "BOOT_FAIL"])
def test_the_infrastructure_is_forgiven_for_one_night(verdict: str) -> None:
    """If the cell had a result the night before; a second night in a row, or a first night, is found."""
    lost = results(cell("6.1-auto", verdict, open=verdict), code=3)
    assert found(lost, GOOD, report="failure") == []
    assert found(lost, lost) == [f"6.1-auto {verdict}"]
    assert found(lost, None) == [f"6.1-auto {verdict}"]


def test_a_missing_shard_is_found() -> None:
    """A shard without results is no pass."""
    absent = results(cell("6.1-auto", "NOT_RUN", open="NOT_RUN"), code=4)
    assert found(absent, GOOD) == ["6.1-auto NOT_RUN"]


def test_a_cell_that_failed_outside_of_its_tests_is_found() -> None:
    left = results(cell("6.1-auto", "FAIL", open="PASS"), code=1)
    assert found(left, GOOD) == ["6.1-auto FAIL"]


def test_a_run_that_fails_for_no_cell_is_found() -> None:
    """For example because no cell could run a scenario."""
    unused = GOOD | {"run": {"exit_code": 1, "notes": ["doors.mmap: no cell ran it"]}}
    assert found(unused, GOOD) == ["run"]


@pytest.mark.parametrize("job", ["plan", "suite (mutants)", "suite (faults)"])
@pytest.mark.parametrize("conclusion", ["failure", "cancelled", "timed_out"])
def test_a_job_that_fails_is_found(job: str, conclusion: str) -> None:
    """A lock that could not be written, a mutant that survived, a fault in the wrong class."""
    night = nightly.Night(FINE | {job: conclusion}, GOOD)
    assert [one.key for one in nightly.findings(night, GOOD)] == [f"job {job}"]


def test_differences_of_the_law_are_found_by_kind() -> None:
    """The job that exits 1 because of them is no further finding; without a log it is one."""
    jobs = FINE | {
        "law (6.1)": "failure",
        "law (rules)": "failure",
        "law (7.3)": "failure",
        "law (5.10)": "success",
    }
    night = nightly.Night(jobs, GOOD, law={"6.1": {"filter open": 3}, "rules": {"value": 1}, "5.10": {}})
    assert [one.key for one in nightly.findings(night, GOOD)] == [
        "job law (7.3)",
        "law 6.1: filter open",
        "law rules: value",
    ]


def test_a_campaign_that_was_cut_off_is_found_beside_its_differences() -> None:
    night = nightly.Night(FINE | {"law (6.1)": "timed_out"}, GOOD, law={"6.1": {"filter open": 3}})
    assert [one.key for one in nightly.findings(night, GOOD)] == ["job law (6.1)", "law 6.1: filter open"]


def test_missing_results_are_found() -> None:
    assert found(None, GOOD, report="failure") == ["job report", "results"]


def test_a_shard_is_a_finding_only_without_a_verdict() -> None:
    bad = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)
    shard = {"shard (1/2)": "failure"}
    assert [one.key for one in nightly.findings(nightly.Night(FINE | shard, bad), GOOD)] == [
        "6.1-auto truth.open FAIL"
    ]
    assert [one.key for one in nightly.findings(nightly.Night(FINE | shard, GOOD), GOOD)] == [
        "job shard (1/2)"
    ]


def test_a_night_that_does_not_compare_is_found_once_and_with_the_reason() -> None:
    """`harness compare` then exits 4, which fails the job `report`."""
    night = nightly.Night(FINE | {"report": "failure"}, GOOD, "60 of 97 tests of the old run are gone")
    (one,) = nightly.findings(night, GOOD)
    assert one.key == "comparison"
    assert "60 of 97 tests of the old run are gone" in one.text
    other = nightly.Night(FINE | {"report": "failure", "shard (1/2)": "failure"}, GOOD, "other tests")
    assert [one.key for one in nightly.findings(other, GOOD)] == ["job shard (1/2)", "comparison"]


def test_a_run_that_failed_as_a_whole_is_found_with_its_notes() -> None:
    """No cell shows the reason, and the comparison does not have the notes."""
    bad = results(cell("6.1-auto", "PASS", open="PASS"), code=1)
    bad["run"]["notes"] = ["hook set lsm: no cell exercised it"]
    night = nightly.Night(FINE | {"report": "failure"}, bad, "the new run has exit code 1")
    rows = nightly.findings(night, GOOD)
    assert [one.key for one in rows] == ["run", "comparison"]
    assert "hook set lsm: no cell exercised it" in rows[0].text


def test_text_of_a_guest_stays_text() -> None:
    """No backtick ends the code span, no line break starts a heading, and GitHub's limit is kept."""
    rows = [cell(f"c{n}", "FAIL", **{f"t`{n}": "FAIL"}) for n in range(300)]
    for row in rows:
        row["tests"][0]["reason"] = "`@everyone`\n# heading" + "x" * 900
    found = nightly.findings(nightly.Night(FINE, results(*rows, code=1)), None)
    text = nightly.body(found, [], "https://example/1", "")
    assert len(text) <= 65_536
    assert "\n# heading" not in text
    assert "`@everyone`" not in text
    assert "and 200 more" in text


GH = """#!{python}
import json, os, pathlib, shutil, sys
home = pathlib.Path({home!r})
words = sys.argv[1:]
with (home / "calls").open("a") as file:
    file.write(" ".join(words) + "\\n")
if words[:2] == ["repo", "view"]:
    print("main")
elif words[:2] == ["run", "list"]:
    print("\\n".join((home / "runs").read_text().split()))
elif words[:2] == ["run", "view"]:
    print((home / "jobs.json").read_text())
elif words[:2] == ["run", "download"]:
    source = home / words[2] / words[words.index("--name") + 1]
    if not source.exists():
        sys.exit(1)
    shutil.copytree(source, words[words.index("--dir") + 1], dirs_exist_ok=True)
elif words[:2] == ["issue", "list"]:
    print((home / "open").read_text() if (home / "open").exists() else "", end="")
"""


class Hub:
    """A fake `gh` that answers from a folder; run 50 is this one, and run 40 the last one."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir()
        program = home / "gh"
        program.write_text(GH.format(python=sys.executable, home=str(home)))
        program.chmod(0o755)
        (home / "runs").write_text("45 40")
        self.jobs(FINE)

    def jobs(self, ended: dict[str, str]) -> None:
        rows = [{"name": name, "conclusion": word} for name, word in ended.items()]
        rows.append({"name": "issue", "conclusion": ""})
        (self.home / "jobs.json").write_text(json.dumps({"jobs": rows}))

    def artifact(self, run: str, name: str, **files: Any) -> None:
        folder = self.home / run / name
        folder.mkdir(parents=True)
        for file, content in files.items():
            (folder / f"{file}.json").write_text(json.dumps(content))

    def log(self, run: str, name: str, file: str, *lines: dict[str, Any]) -> None:
        folder = self.home / run / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    def call(self, *words: str, branch: str = "main") -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.home}:{os.environ['PATH']}",
            "GITHUB_RUN_ID": "50",
            "GITHUB_REF_NAME": branch,
        }
        argv = [sys.executable, str(PROGRAM), *words]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    @property
    def written(self) -> list[str]:
        """Return the calls that change something."""
        calls = (self.home / "calls").read_text().splitlines()
        return [call for call in calls if call.startswith(("issue create", "issue comment", "issue close"))]


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    return Hub(tmp_path / "hub")


BAD = results(cell("6.1-auto", "FAIL", open="FAIL"), code=1)


def test_a_first_failure_opens_the_issue(hub: Hub, tmp_path: Path) -> None:
    hub.artifact("50", "results", results=BAD)
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert [call.split(" --")[0] for call in hub.written] == ["issue create"]
    assert "`6.1-auto truth.open` FAIL: `because`" in done.stdout


def test_a_night_that_could_not_even_plan_opens_the_issue(hub: Hub, tmp_path: Path) -> None:
    """The update of the lock failed: no test ran, and no comparison is possible."""
    hub.jobs({"plan": "failure", "shard": "skipped", "report": "skipped", "suite (faults)": "success"})
    assert hub.call("conclude", str(tmp_path / "d")).returncode == 0
    assert [call.split(" --")[0] for call in hub.written] == ["issue create"]


@pytest.mark.parametrize(("known", "writes"), [([], ["issue comment 7"]), (["6.1-auto truth.open FAIL"], [])])
def test_an_open_issue_gets_only_new_findings(
    hub: Hub, tmp_path: Path, known: list[str], writes: list[str]
) -> None:
    (hub.home / "open").write_text("7")
    hub.artifact("50", "results", results=BAD)
    hub.artifact("40", "decision", decision={"keys": known})
    assert hub.call("conclude", str(tmp_path / "d")).returncode == 0
    assert [call.split(" --")[0] for call in hub.written] == writes


def test_a_known_failure_without_an_open_issue_opens_one(hub: Hub, tmp_path: Path) -> None:
    """The issue was closed without a correction."""
    hub.artifact("50", "results", results=BAD)
    hub.artifact("40", "decision", decision={"keys": ["6.1-auto truth.open FAIL"]})
    hub.call("conclude", str(tmp_path / "d"))
    assert [call.split(" --")[0] for call in hub.written] == ["issue create"]


def test_the_logs_of_the_law_decide_the_issue(hub: Hub, tmp_path: Path) -> None:
    """The summary is the last line of each log; a log without it, of a run that was killed, is a finding."""
    hub.jobs(FINE | {"law (6.1)": "failure", "law (7.3)": "failure", "law (rules)": "success"})
    hub.artifact("50", "results", results=GOOD)
    kinds = {"summary": {"kinds": [{"kind": "filter open on `ext4`", "count": 2, "first": 9}]}}
    hub.log("50", "law-6.1", "6.1-auto-1.jsonl", {"case": 9}, kinds)
    hub.log("50", "law-6.1", "6.1-auto-1-neighbour.jsonl", kinds)
    hub.log("50", "law-7.3", "7.3-auto-1.jsonl", {"case": 3})
    hub.log("50", "law-rules", "rules-1.jsonl", {"summary": {"kinds": []}})
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert [call.split(" --")[0] for call in hub.written] == ["issue create"]
    assert "`law 6.1: filter open on 'ext4'`, 4 times" in done.stdout
    assert json.loads((tmp_path / "d/decision.json").read_text())["keys"] == [
        "law 6.1: filter open on `ext4`",
        "law 7.3: 7.3-auto-1.jsonl ends without a summary",
    ]


def test_a_good_night_closes_the_issue(hub: Hub, tmp_path: Path) -> None:
    (hub.home / "open").write_text("7")
    hub.artifact("50", "results", results=GOOD)
    hub.call("conclude", str(tmp_path / "d"))
    assert [call.split(" --")[0] for call in hub.written] == ["issue close 7"]
    assert json.loads((tmp_path / "d/decision.json").read_text()) == {"keys": []}


def test_another_branch_does_not_change_the_issue(hub: Hub, tmp_path: Path) -> None:
    hub.artifact("50", "results", results=BAD)
    done = hub.call("conclude", str(tmp_path / "d"), branch="experiment")
    assert done.returncode == 0
    assert "experiment is not the default branch" in done.stdout
    assert hub.written == []


def test_the_baseline_is_of_the_default_branch(hub: Hub, tmp_path: Path) -> None:
    """It is the newest run with the artifact."""
    hub.artifact("40", "plan", lock={})
    done = hub.call("last", "plan", str(tmp_path / "last"))
    assert done.stdout == "plan: of run 40\n"
    assert (tmp_path / "last/lock.json").exists()
    calls = (hub.home / "calls").read_text()
    assert "run list --workflow nightly.yml --branch main --status completed" in calls


def test_the_first_night_has_no_baseline(hub: Hub, tmp_path: Path) -> None:
    assert (
        hub.call("last", "results", str(tmp_path / "last")).stdout == "no earlier nightly run has results\n"
    )


def test_a_github_that_refuses_fails_the_job(hub: Hub, tmp_path: Path) -> None:
    """An issue that could not be written must not end in success."""
    (hub.home / "jobs.json").unlink()
    assert hub.call("conclude", str(tmp_path / "d")).returncode != 0


def test_it_runs_without_the_project_being_installed() -> None:
    """The job of the issue has no set-up, so only the standard library is imported."""
    program = f"sys.argv = ['nightly.py', '--help']; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    argv = ["python3", "-I", "-S", "-c", f"import sys, runpy; {program}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
