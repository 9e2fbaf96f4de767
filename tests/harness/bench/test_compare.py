"""Costs are compared night by night: what grew by more than one percent is a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import cli
from harness.bench import compare, page
from harness.bench.model import Bench, Trial
from harness.errors import ConfigError
from tests.harness.bench.made import bench, measured, trial


def night(cpu: int, **changes: object) -> Bench:
    """A night on which the agent and another monitor cost so much."""
    return bench(
        trial(1, "none", open=measured(1000)),
        trial(1, "agent", open=measured(1000 + cpu)),
        trial(1, "auditd", open=measured(1000 + 10 * cpu)),
        **changes,
    )


@pytest.mark.parametrize(("cpu", "grew"), [(10_000, False), (10_090, False), (10_110, True), (5_000, False)])
def test_more_than_a_percent_is_a_regression(cpu: int, grew: bool) -> None:
    """Of what the agent adds to an operation; the cost of the workload itself does not hide it."""
    found = compare.compare(night(10_000), night(cpu))
    assert [one.figure for one in found.regressions] == (["open"] if grew else [])
    assert found.exit_code == int(grew)


def test_only_the_agent_can_regress() -> None:
    assert {one.monitor for one in compare.compare(night(1), night(9)).changes} == {"agent"}


def test_start_and_memory_are_figures() -> None:
    old = night(10)
    later = old.trials[1].model_copy(update={"pss_kib": 2048})
    found = compare.compare(old, old.model_copy(update={"trials": (old.trials[0], later, old.trials[2])}))
    assert [(one.figure, one.grew) for one in found.regressions] == [("memory, MiB", 1.0)]


def test_a_hook_set_that_cannot_run_any_more_is_not_silent() -> None:
    old = night(10)
    gone = Trial(round=1, monitor="agent", unable="load-fail")
    found = compare.compare(old, old.model_copy(update={"trials": (old.trials[0], gone)}))
    assert found.gone == ("agent: open", "agent: start", "agent: memory, MiB")
    assert found.exit_code == 4


def test_time_may_differ_more_than_instructions() -> None:
    old, new = (night(cpu, clock="time") for cpu in (10_000, 11_000))
    assert compare.compare(old, new).regressions == []


def test_different_kernels_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="differ in kernel"):
        compare.compare(night(1), night(1, kernel="7.3"))


def test_the_command_compares_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what grew first, and exits 1 for a regression."""
    for name, cpu in (("old", 10_000), ("new", 20_000)):
        page.save(night(cpu), page.folder(tmp_path / name))
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "## Cost on 6.1: 1 figure grew by more than 1%"
    assert lines[4] == "| agent | open | 500 | 1,000 | +100.00% |"
    words = ["compare", str(tmp_path / "old" / "bench.json"), str(tmp_path / "old"), "--json"]
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["regressions"] == []
