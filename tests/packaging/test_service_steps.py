"""The steps of the package on a host with systemd: what each accepts, and that the data can be played."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from harness.lab import command
from harness.plan import checked
from tests import ROOT

FOLDER = ROOT / "packaging/service"
STEPS: dict[str, Any] = yaml.safe_load((FOLDER / "steps.yaml").read_text())
ALL = [step for steps in STEPS["boots"] for step in steps]
OPEN = {"rule": "tool", "event": {"type": "open"}}
EXPLAINED = {**OPEN, "explained_by": "dpkg:x 1"}
LOSS = {"rule": "agent.loss"}


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("service_steps", FOLDER / "run.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


steps = _loaded()


@pytest.fixture
def matches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's file, which already has a line."""
    file = tmp_path / "matches.jsonl"
    file.write_text(json.dumps(OPEN) + "\n")
    monkeypatch.setattr(steps, "MATCHES", file)
    return file


def play(file: Path, lines: Sequence[object], **step: Any) -> list[str]:
    """Play a step during which the agent writes these lines."""
    written = "".join(f"{json.dumps(line)}\n" for line in lines)
    file.with_name("new").write_text(written)
    run = f"cat {file.with_name('new')} >>{file}; {step.pop('run', 'true')}"
    return list(steps.play({"run": run, "within": 0, **step}, "", "tool"))


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        ([OPEN], {"matches": [{"rule": "tool", "event.type": "open"}]}),
        ([LOSS, OPEN], {"matches": [{"rule": "agent.loss"}, {"rule": "tool", "explained_by": None}]}),
        ([LOSS, LOSS, OPEN], {"matches": [{"rule": "tool"}]}),
        ([{"rule": "another"}], {}),
        ([EXPLAINED] * 3, {"matches": [{"rule": "tool"}], "others": {"explained_by": "dpkg:x 1"}}),
        ([], {"run": "echo a; exit 3", "status": 3, "prints": "a\n"}),
        ([], {"until": "true"}),
    ],
)
def test_a_step_accepts(matches: Path, lines: list[object], step: dict[str, Any]) -> None:
    """Lines from before the step do not count."""
    assert play(matches, lines, **step) == []


@pytest.mark.parametrize(
    ("lines", "step", "problem"),
    [
        ([], {"matches": [{"rule": "tool"}]}, "missing"),
        ([EXPLAINED], {"matches": [{"rule": "tool", "explained_by": None}]}, "missing"),
        ([OPEN, LOSS], {"matches": [{"rule": "agent.loss"}, {"rule": "tool"}]}, "missing"),
        ([OPEN, OPEN], {"matches": [{"rule": "tool"}]}, "not expected"),
        ([OPEN], {"matches": []}, "not expected"),
        ([EXPLAINED, OPEN], {"matches": [{"rule": "tool", "explained_by": "dpkg:x 1"}],
                             "others": {"explained_by": "dpkg:x 1"}}, "not expected"),
        ([], {"run": "exit 3"}, "exit status 3"),
        ([], {"run": "echo b", "prints": "a\n"}, "exit status 0"),
        ([], {"run": "false; true"}, "exit status 1"),
        ([], {"until": "false"}, "missing"),
    ],
)  # fmt: skip
def test_a_step_refuses(matches: Path, lines: list[object], step: dict[str, Any], problem: str) -> None:
    """The error has what was seen."""
    with pytest.raises(steps.StepError, match=problem):
        play(matches, lines, **step)


def test_a_line_that_came_late_is_refused(matches: Path) -> None:
    """The time in the line is that of the event."""
    late = {**OPEN, "time": "2026-01-01T00:00:00.123456789Z"}
    with pytest.raises(steps.StepError, match=r"came \d+\.\d+ s after the event, not within 1 s"):
        play(matches, [late], matches=[{"rule": "tool"}], delay=1)


def test_the_keys_of_the_steps_are_described() -> None:
    """A misspelt key would be a check that is not made."""
    described = set(re.findall(r"^  (\w+) ", steps.__doc__ or "", re.MULTILINE))
    assert {key for step in ALL for key in step} <= described
    assert len({step["name"] for step in ALL}) == len(ALL)
    assert steps.REBOOT == command.REBOOT


def test_the_default_matrix_plays_the_steps_on_each_debian() -> None:
    """At night, with as many reboots as the steps have."""
    found = [suite for suite in checked.load(ROOT / "matrix.yaml").suites if suite.root]
    assert [suite.root for suite in found] == ["debian-12", "debian-13"]
    for suite in found:
        assert suite.tags == ("nightly",)
        assert suite.reboots == len(STEPS["boots"]) - 1
        assert suite.results == "tap"
