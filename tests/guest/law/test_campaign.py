"""A campaign whose programs crash the kernel: a finding to replay, and the next case in a new guest."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from harness.lab.lab import VmBench
from tests.campaigns.law.__main__ import loads
from tests.campaigns.law.arena import Arena
from tests.campaigns.law.campaign import Campaign
from tests.campaigns.law.case import Case
from tests.campaigns.law.programs import Program
from tests.campaigns.law.steps import line
from tests.campaigns.law.world import World

pytestmark = pytest.mark.guest

CRASH = Program("crash", (line("open", "/proc/sysrq-trigger", "O_WRONLY", into=0), line("write", "$0", "c")))
PLAYS = 3


@dataclass
class Deadly(Campaign):
    """The last program of case 1 crashes the kernel; Ctrl-C ends the campaign after case 2."""

    def case(self, world: World, number: int) -> Case:
        if number == PLAYS:
            raise KeyboardInterrupt
        case = super().case(world, number)
        return replace(case, programs=(*case.programs, CRASH)) if number == 1 else case


def test_a_guest_that_crashes_is_a_finding_and_the_campaign_goes_on(tmp_path: Path, bench: VmBench) -> None:
    log = tmp_path / "log.jsonl"
    campaign = Deadly(
        "6.1",
        5,
        lambda world: Arena("6.1", world, bench=bench),
        loads,
        log,
        print,
        batch=5,
        shrinking=False,
    )
    with pytest.raises(KeyboardInterrupt):
        campaign.run(60.0)
    entries = [json.loads(row) for row in log.read_text().splitlines()]
    (died,) = [entry for entry in entries if "died" in entry]
    assert (died["seed"], died["case"]) == (5, 1)
    assert "panic" in died["died"]
    assert Case.from_json(died["small"]).programs[-1] == CRASH
    assert ["sysrq_handle_crash" in entry["console"] for entry in entries if "console" in entry] == [True]
    assert [entry["case"] for entry in entries if "records" in entry] == [0, 2]
    assert campaign.figures.guests == 2
