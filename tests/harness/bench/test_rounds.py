"""Rounds are interleaved; unknown names, failing machines and monitors that cannot run are handled."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.bench import rounds, session
from harness.bench.model import Trial
from harness.bench.monitors import Monitor
from harness.bench.workloads import WORKLOADS, Workload
from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import silent

CHOSEN = rounds.chosen_monitors(["auditd", "strace"])


def measure(number: int, monitor: Monitor, _workloads: Sequence[Workload]) -> Trial:
    return Trial(round=number, monitor=monitor.name, unable="no" if monitor.name == "auditd" else "")


def test_every_second_round_is_in_reverse_order() -> None:
    """A monitor that cannot run is tried once."""
    found = rounds.play(measure, CHOSEN, WORKLOADS, 3, silent)
    names = [(trial.round, trial.monitor) for trial in found]
    assert names == [
        *((1, name) for name in ("none", "auditd", "strace")),
        *((2, name) for name in ("strace", "none")),
        *((3, name) for name in ("none", "strace")),
    ]


def test_a_trial_is_repeated_once_if_its_machine_fails() -> None:
    """Two failures in a row end the bench."""
    failures = iter([True, False, True, True])

    def fails(number: int, monitor: Monitor, workloads: Sequence[Workload]) -> Trial:
        if next(failures):
            raise InfrastructureError("lost")
        return measure(number, monitor, workloads)

    found = rounds.play(fails, CHOSEN, WORKLOADS, 1, silent)
    assert next(found).monitor == "none"
    with pytest.raises(InfrastructureError, match="lost"):
        next(found)


def test_names_are_globs_and_none_is_always_measured() -> None:
    assert [one.name for one in rounds.chosen_monitors(["auditd*"])] == [
        *("none", "auditd", "auditd-100", "auditd-1000")
    ]
    assert [one.name for one in rounds.chosen_workloads(["exec*"])] == ["exec", "exec-fast"]


@pytest.mark.parametrize("choose", [rounds.chosen_monitors, rounds.chosen_workloads])
def test_an_unknown_name_is_refused_with_all_names(choose: object) -> None:
    assert callable(choose)
    with pytest.raises(ConfigError, match=r"--(monitor|workload) opne: no such name") as caught:
        choose(["opne"])
    assert caught.value.hint.startswith("choose from ")


def test_kvm_has_no_clock_that_counts_instructions() -> None:
    with pytest.raises(ConfigError, match="KVM has no clock"):
        session.chosen_clock("instructions", "kvm")
    assert session.chosen_clock("auto", "kvm") == "time"
    assert session.chosen_clock("auto", "tcg") == "instructions"
    assert session.chosen_clock("time", "tcg") == "time"
