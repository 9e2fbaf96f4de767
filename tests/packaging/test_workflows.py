"""The workflows are thin and pinned, and have only the permissions that they need."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.selftest import catalogue
from harness import cli
from harness.commands import options
from harness.plan import checked, plan
from harness.results import results_file
from tests import ROOT
from tests.harness.report.made_up import every_verdict

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / ".github/actions/harness/action.yml"
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.load(path.read_text(), yaml.BaseLoader))


def steps(path: Path) -> list[dict[str, Any]]:
    content = load(path)
    jobs = content["jobs"].values() if "jobs" in content else [content["runs"]]
    return [step for job in jobs for step in job["steps"]]


def commands(path: Path) -> list[list[str]]:
    """Return the words of each call of `harness` in a workflow, with shell expansions replaced."""
    text = "\n".join(step.get("run", "") for step in steps(path))
    found = re.findall(r"(?:\.venv/bin/harness|/harness\") ([^|>)\n]*)", text)
    return [
        shlex.split(words.replace('"$SHARDS"', "6").replace('"$SHARD"', "1/6").replace(" $ARGS", ""))
        for words in found
    ]


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag can be moved; forty hexadecimal digits cannot."""
    used = [step["uses"] for step in steps(path) if "uses" in step and not step["uses"].startswith("./")]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_a_repeated_job_replaces_its_artifacts(path: Path) -> None:
    """Without `overwrite` the upload fails where the name exists, or leaves two artifacts of that name."""
    uploads = [step for step in steps(path) if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert uploads
    assert [step["with"]["name"] for step in uploads if step["with"].get("overwrite") != "true"] == []


def test_the_issue_is_decided_by_results_of_the_same_attempt() -> None:
    """The number of an artifact comes from the job that made it; one of an earlier attempt has another."""
    jobs = load(ROOT / ".github/workflows/nightly.yml")["jobs"]
    (made,) = [step for step in jobs["report"]["steps"] if step.get("id") == "upload"]
    assert (made["if"], made["with"]["name"]) == ("always()", "results")
    assert jobs["report"]["outputs"]["results"] == "${{ steps.upload.outputs.artifact-id }}"
    (deciding,) = [step for step in jobs["issue"]["steps"] if "conclude" in step.get("run", "")]
    assert deciding["env"]["RESULTS"] == "${{ needs.report.outputs.results }}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_permissions_are_given_to_jobs(path: Path) -> None:
    """No permission is given to a whole workflow, and a checkout keeps no credentials."""
    workflow = load(path)
    assert workflow["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_targets_exist(path: Path) -> None:
    """Also the targets that a job has as a matrix: a developer can run them too."""
    made = {word for step in steps(path) for word in re.findall(r"\bmake ([a-z-]+)", step.get("run", ""))}
    jobs = load(path)["jobs"].values()
    made |= {suite for job in jobs for suite in job.get("strategy", {}).get("matrix", {}).get("suite", [])}
    assert made
    assert made <= MAKE_TARGETS


def test_nightly_and_ci_exist() -> None:
    """The README promises both jobs."""
    assert {"ci.yml", "nightly.yml"} <= {path.name for path in WORKFLOWS}


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_every_step_can_be_typed_by_a_developer(path: Path) -> None:
    """Each call of the harness parses, and each script exists and is executable."""
    for words in commands(path):
        cli.parser().parse_args(words)
    used = {name for step in steps(path) for name in re.findall(r"scripts/([a-z-]+)", step.get("run", ""))}
    assert all(os.access(ROOT / "scripts" / name, os.X_OK) for name in used)


def test_the_nightly_goes_from_a_plan_to_an_issue() -> None:
    called = [words[0] for words in commands(ROOT / ".github/workflows/nightly.yml")]
    assert called == [
        "kernels",
        "kernels",
        "history",
        "plan",
        "plan",
        "plan",
        "run",
        "run",
        "run",
        "merge",
        "history",
        "compare",
        "bench",
        "compare",
    ]
    jobs = load(ROOT / ".github/workflows/nightly.yml")["jobs"]
    assert "packaging/nightly.py conclude" in jobs["issue"]["steps"][1]["run"]


def test_the_issue_waits_for_every_job_and_for_no_success() -> None:
    """Its job runs whatever failed before it, and without the set-up, which may have failed."""
    jobs = load(ROOT / ".github/workflows/nightly.yml")["jobs"]
    assert set(jobs["issue"]["needs"]) == set(jobs) - {"issue"}
    assert jobs["issue"]["if"] == "always()"
    assert "make" not in " ".join(step.get("run", "") for step in jobs["issue"]["steps"])


@pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
def test_every_step_is_run_by_bash_with_pipefail(path: Path) -> None:
    """GitHub sets -e and pipefail for a step that names bash; for the default shell it sets no pipefail."""
    content = load(path)
    usual = content.get("defaults", {}).get("run", {}).get("shell", "sh")
    shells = {step.get("shell", usual) for step in steps(path) if "run" in step}
    assert shells == {"bash"}


SCRIPTS = [
    pytest.param(step["run"], id=f"{path.stem}-{number}")
    for path in [*WORKFLOWS, ACTION]
    for number, step in enumerate(step for step in steps(path) if "run" in step)
]
PROGRAMS = (
    ".venv/bin/harness",
    ".venv/bin/pytest",
    "scripts/allow-kvm",
    "scripts/install-packages",
    "scripts/job-summary",
    "bin/make",
    "bin/python3",
    "bin/cp",
)


def run_step(script: str, folder: Path, *, fails: int = 0) -> tuple[int, list[str]]:
    """A step as GitHub runs it, on programs that do nothing; the `fails`th call of one of them fails.

    Returns the step's status and the calls.
    """
    for name in PROGRAMS:
        program = folder / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >>{folder}/calls\n'
            f'[ "$(wc -l <{folder}/calls)" != "$FAILS" ] || exit 9\n'
        )
        program.chmod(0o755)
    (folder / "last").mkdir()
    for name in ("matrix.lock", "results.json"):
        (folder / "last" / name).touch()
    (folder / "step.sh").write_text(script)
    names = {name: str(folder / name.lower()) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    words = dict.fromkeys(("SHARDS", "SHARD", "SUITE", "KERNEL", "MATRIX", "ARGS", "URL"), "word")
    environment = {"PATH": f"{folder}/bin:/usr/bin:/bin", "FAILS": str(fails), "HARNESS": str(folder)}
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step.sh"],
        cwd=folder,
        env=environment | names | words,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, (folder / "calls").read_text().splitlines()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_fails_with_any_of_its_commands(script: str, tmp_path: Path) -> None:
    """Before a pipe, inside a substitution or in the middle: no failure is lost."""
    status, calls = run_step(script, tmp_path / "sound")
    assert status == 0
    assert calls
    for number in range(1, len(calls) + 1):
        status, seen = run_step(script, tmp_path / str(number), fails=number)
        assert status == 9, seen


def test_a_change_is_linted_tested_and_run_on_an_old_and_a_new_kernel() -> None:
    """Each in its own job; the kernels are the first and the last of the matrix."""
    jobs = load(ROOT / ".github/workflows/ci.yml")["jobs"]
    made = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert "make lint" in made["lint"]
    assert "make test" in made["unit"]
    names = [kernel.name for kernel in checked.load(ROOT / "matrix.yaml").kernels if not kernel.tags]
    assert jobs["kernel"]["strategy"]["matrix"]["kernel"] == [names[0], names[-1]]


def test_make_test_boots_the_oldest_and_the_newest_kernel() -> None:
    """After the fast tests, by `harness run` itself; `make unit` boots nothing."""
    recipes = {
        target: subprocess.run(
            ["make", "-n", "-o", "setup", "-o", "build", target, "ARGS=-k pipeline"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for target in ("unit", "test")
    }
    assert "harness run" not in recipes["unit"]
    fast, _, booted = recipes["test"].partition("bin/harness ")
    assert "bin/pytest -n auto -k pipeline" in fast
    arguments = cli.parser().parse_args(shlex.split(booted.partition("\n")[0]))
    made = plan.make(checked.load(ROOT / arguments.matrix), options.selectors(arguments))
    names = [kernel.name for kernel in checked.load(ROOT / "matrix.yaml").kernels if not kernel.tags]
    assert [cell.id for cell in made.cells] == [f"{names[0]}-auto", f"{names[-1]}-auto"]
    smoke = tuple(scenario.name for scenario in catalogue.select(["@smoke"]))
    assert [cell.tests for cell in made.cells] == [smoke, smoke]


def test_the_nightly_runs_all_that_is_too_long_for_a_change() -> None:
    """Faults and mutants prove each night that a failure would be noticed."""
    jobs = load(ROOT / ".github/workflows/nightly.yml")["jobs"]
    assert {"mutants", "faults", "guest"} <= set(jobs["suite"]["strategy"]["matrix"]["suite"])


def test_the_nightly_looks_for_holes_with_a_new_seed() -> None:
    """Random programs on three kernels, and random rules; the issue's job needs them; logs are kept."""
    jobs = load(ROOT / ".github/workflows/nightly.yml")["jobs"]
    law = jobs["law"]
    assert set(law["strategy"]["matrix"]["part"]) == {"rules", "5.10", "6.1", "7.3"}
    assert "run_id" in law["env"]["SEED"]
    assert "law" in jobs["issue"]["needs"]
    (kept,) = [step for step in law["steps"] if "upload-artifact" in step.get("uses", "")]
    assert (kept["if"], kept["with"]["name"]) == ("always()", "law-${{ matrix.part }}")


def test_the_key_of_a_cache_names_its_content() -> None:
    """It has the kernels' hashes, so that a changed package is another cache."""
    caches = [
        step["with"]["key"]
        for path in [*WORKFLOWS, ACTION]
        for step in steps(path)
        if step.get("uses", "").startswith("actions/cache@")
    ]
    assert len(caches) == 5
    assert all("hashFiles(" in key and "matrix.lock" in key for key in caches)


@pytest.mark.parametrize(
    ("path", "job"),
    [("workflows/ci.yml", "kernel"), ("actions/harness/action.yml", "")],
    ids=["ci", "action"],
)
def test_the_lock_is_written_before_a_cache_is_named_by_it(path: str, job: str) -> None:
    """Without a lock the key would be constant, and the first cache would stay for ever."""
    content = load(ROOT / ".github" / path)
    listed = content["jobs"][job]["steps"] if job else content["runs"]["steps"]
    locks = [number for number, step in enumerate(listed) if "kernels lock" in step.get("run", "")]
    caches = [
        number for number, step in enumerate(listed) if step.get("uses", "").startswith("actions/cache@")
    ]
    assert locks
    assert locks[0] < caches[0]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_pull_request_gets_no_permissions(path: Path) -> None:
    """It has a token for reading and no secret; only one nightly job may write, and only issues."""
    workflow = load(path)
    assert "pull_request_target" not in workflow["on"]
    assert "secrets." not in path.read_text()
    writes = {
        name: right
        for name, job in workflow["jobs"].items()
        for right, given in job["permissions"].items()
        if given != "read"
    }
    assert writes == ({"issue": "issues"} if path.name == "nightly.yml" else {})


def test_a_script_gets_input_only_through_its_environment() -> None:
    """Text of a pull request or an input must not become code."""
    scripts = [step["run"] for path in [*WORKFLOWS, ACTION] for step in steps(path) if "run" in step]
    assert [script for script in scripts if "${{" in script] == []


def test_zizmor_finds_nothing() -> None:
    program = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [program, "--offline", "--no-progress", ".github"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_job_links_to_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The summary links to the archive, findings become annotations, and the step itself succeeds."""
    found = every_verdict()
    results_file.write(found, tmp_path)
    cells = [
        {"id": cell.id, "kernel": {"name": cell.kernel.name, "series": "6.1"}, "hookset": cell.hookset}
        | {"tests": [test.name for test in cell.tests]}
        for cell in found.cells
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"schema": 1, "cells": cells, "omitted": []}))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "shown"))
    command = [str(ROOT / "scripts/job-summary"), str(tmp_path), "https://archive.example/1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shown = (tmp_path / "shown").read_text()
    assert "[Report, consoles and results](https://archive.example/1)" in shown
    assert "report.html#" not in shown
    assert "::error title=CRASH" in done.stdout
