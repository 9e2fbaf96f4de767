"""The nightly's issue: what opens, updates and closes it, with a fake `gh`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.nights import FINE, GOOD, PROGRAM, cell, results

GH = """#!{python}
import json, pathlib, sys
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
elif words[0] == "api" and words[-1].endswith("/zip"):
    archive = home / "artifacts" / words[-1].split("/")[-2]
    if not archive.exists():
        sys.exit(1)
    sys.stdout.buffer.write(archive.read_bytes())
elif words[0] == "api":
    run = words[3].split("/")[-2]
    name = words[words.index("-f") + 1].removeprefix("name=")
    assert words[-1] == "[.artifacts[] | select(.expired | not) | .id] | max // empty"
    known = json.loads((home / "artifacts.json").read_text())
    numbers = [row["id"] for row in known if (row["run"], row["name"]) == (run, name)]
    print(max(numbers) if numbers else "")
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
        (home / "artifacts").mkdir()
        self._artifacts: list[dict[str, Any]] = []
        self._store()
        self.jobs(FINE)

    def jobs(self, ended: dict[str, str]) -> None:
        rows = [{"name": name, "conclusion": word} for name, word in ended.items()]
        rows.append({"name": "issue", "conclusion": ""})
        (self.home / "jobs.json").write_text(json.dumps({"jobs": rows}))

    def _store(self) -> None:
        (self.home / "artifacts.json").write_text(json.dumps(self._artifacts))

    def archive(self, run: str, name: str, files: dict[str, str | bytes]) -> str:
        """Keep an artifact with these files; return its number. A later one has a greater number."""
        number = 900 + len(self._artifacts)
        with zipfile.ZipFile(self.home / "artifacts" / str(number), "w") as packed:
            for file, text in files.items():
                packed.writestr(file, text)
        self._artifacts.append({"id": number, "run": run, "name": name})
        self._store()
        return str(number)

    def artifact(self, run: str, name: str, **files: Any) -> str:
        return self.archive(
            run, name, {f"{file}.json": json.dumps(content) for file, content in files.items()}
        )

    def logs(self, run: str, name: str, files: dict[str, list[dict[str, Any]]]) -> None:
        """Keep logs of a campaign, with a JSON object a line."""
        texts: dict[str, str | bytes] = {
            f"{file}.jsonl": "".join(f"{json.dumps(line)}\n" for line in lines)
            for file, lines in files.items()
        }
        self.archive(run, name, texts)

    def call(self, *words: str, branch: str = "main", **more: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.home}:{os.environ['PATH']}",
            "GITHUB_RUN_ID": "50",
            "GITHUB_REF_NAME": branch,
            **more,
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
    hub.logs("50", "law-6.1", {"6.1-auto-1": [{"case": 9}, kinds], "6.1-auto-1-neighbour": [kinds]})
    hub.logs("50", "law-7.3", {"7.3-auto-1": [{"case": 3}]})
    hub.logs("50", "law-rules", {"rules-1": [{"summary": {"kinds": []}}]})
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
    hub.artifact("40", "plan", lock={"kernels": []})
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
    """An issue that could not be written must not end in success; the error is one line."""
    (hub.home / "jobs.json").write_text("{}")
    done = hub.call("conclude", str(tmp_path / "d"))
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    (hub.home / "jobs.json").unlink()
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 3
    assert "nightly.py: `gh run view 50 --json jobs` failed with 1; the issue" in done.stderr
    (hub.home / "gh").unlink()
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 3
    assert done.stderr.startswith("nightly.py: ")


def test_conclude_outside_of_a_workflow_is_refused(hub: Hub, tmp_path: Path) -> None:
    done = hub.call("conclude", str(tmp_path / "d"), GITHUB_RUN_ID="")
    assert done.returncode == 2
    assert "GITHUB_RUN_ID not set" in done.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\udcff"], ids=["empty", "cut", "list", "object", "bytes"]
)
def test_damaged_results_open_the_issue(hub: Hub, tmp_path: Path, text: str) -> None:
    hub.archive("50", "results", {"results.json": text.encode("utf-8", "surrogateescape")})
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert "results.json is damaged" in done.stdout
    assert [call.split(" --")[0] for call in hub.written] == ["issue create"]


def test_a_damaged_night_before_does_not_stop_this_one(hub: Hub, tmp_path: Path) -> None:
    """What is no JSON is passed over for an older run, or it would stop every later night as well."""
    (hub.home / "open").write_text("7")
    hub.archive("45", "results", {"results.json": "{", "history.json": "{}"})
    hub.archive("45", "decision", {"decision.json": "["})
    hub.artifact("40", "results", results={"run": 5})
    hub.artifact("40", "decision", decision={"keys": 5})
    hub.artifact("50", "results", results=GOOD)
    done = hub.call("conclude", str(tmp_path / "d"))
    assert done.returncode == 0, done.stderr
    assert "The results of the night before are damaged" in done.stdout
    assert [call.split(" --")[0] for call in hub.written] == ["issue close 7"]
    done = hub.call("last", "results", str(tmp_path / "last"))
    assert done.stdout == "results: of run 40\n"
    assert [path.name for path in (tmp_path / "last").iterdir()] == ["results.json"]


def test_the_newest_artifact_of_a_name_counts(hub: Hub, tmp_path: Path) -> None:
    """Each attempt of a run that was repeated keeps its own, and GitHub lists all of them."""
    hub.artifact("40", "results", results=BAD)
    hub.artifact("40", "results", results=GOOD)
    hub.call("last", "results", str(tmp_path / "last"))
    assert json.loads((tmp_path / "last/results.json").read_text()) == GOOD


def test_results_of_an_earlier_attempt_do_not_count(hub: Hub, tmp_path: Path) -> None:
    """The job `report` names the artifact that it made, or none if it failed before."""
    number = hub.artifact("50", "results", results=GOOD)
    hub.artifact("50", "results", results=BAD)
    done = hub.call("conclude", str(tmp_path / "named"), RESULTS=number)
    assert "truth.open" not in done.stdout
    done = hub.call("conclude", str(tmp_path / "none"), RESULTS="")
    assert "there are no results" in done.stdout
    (hub.home / "artifacts" / "999").write_bytes(b"no archive")
    done = hub.call("conclude", str(tmp_path / "damaged"), RESULTS="999")
    assert "there are no results" in done.stdout
    assert "artifact 999 is damaged" in done.stderr


def test_it_runs_without_the_project_being_installed() -> None:
    """The job of the issue has no set-up, so only the standard library is imported."""
    program = f"sys.argv = ['nightly.py', '--help']; runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    argv = ["python3", "-I", "-S", "-c", f"import sys, runpy; {program}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
