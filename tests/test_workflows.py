"""The workflows are thin, pinned and have no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKE_TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def load(path: Path) -> dict[str, Any]:
    return dict(yaml.load(path.read_text(), yaml.BaseLoader))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit(path: Path) -> None:
    """A tag can be moved; forty hexadecimal digits cannot."""
    used = [step["uses"] for step in steps(path) if "uses" in step and not step["uses"].startswith("./")]
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", name)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_rights_are_given_by_the_job(path: Path) -> None:
    """Nothing is granted to a whole workflow, and a checkout keeps no credentials."""
    workflow = load(path)
    assert workflow["permissions"] == {}
    assert all("permissions" in job and "timeout-minutes" in job for job in workflow["jobs"].values())
    checkouts = [step for step in steps(path) if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_make_targets_exist(path: Path) -> None:
    """What a workflow makes, a developer can make."""
    made = {word for step in steps(path) for word in re.findall(r"\bmake ([a-z]+)", step.get("run", ""))}
    assert made
    assert made <= MAKE_TARGETS


def test_nightly_and_ci_exist() -> None:
    """Both jobs that the README promises are there."""
    assert {"ci.yml", "nightly.yml"} <= {path.name for path in WORKFLOWS}
