"""The catalogue is complete, tells the truth about itself, and costs nothing to import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.events.model import EventType
from agent.selftest.catalogue import CATALOGUE, Scenario, by_name, select, unknown
from tests import ROOT

EVENTS = {f"event:{kind.label}" for kind in EventType}


def names(*patterns: str) -> list[str]:
    return [scenario.name for scenario in select(patterns)]


def test_names_are_unique() -> None:
    assert len({scenario.name for scenario in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_each_says_in_one_sentence_what_it_proves(scenario: Scenario) -> None:
    assert scenario.proves[0].isupper()
    assert scenario.proves.count(". ") == 0
    assert scenario.proves.endswith(".")
    assert scenario.name.islower()
    assert scenario.name.count(".") == 1
    assert scenario.cost > 0


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_needs_are_known_facts(scenario: Scenario) -> None:
    assert set(scenario.needs) <= EVENTS | {"kernel", "resolved", "refusals", "unhidden"}


def test_no_pattern_selects_all() -> None:
    assert names() == [scenario.name for scenario in CATALOGUE]


def test_patterns_select_and_leave_out() -> None:
    assert names("truth.[our]*n*") == ["truth.open", "truth.unlink", "truth.rename", "truth.umount"]
    assert names("truth.[our]*n*", "!*.un*") == ["truth.open", "truth.rename", "truth.umount"]
    assert "loss.steady" not in names("!loss.*")
    assert names("!*") == []


def test_a_pattern_that_fits_nothing_is_told() -> None:
    assert unknown(["truth.*", "!loss.*", "trooth.*", "!lost.*"]) == ("trooth.*", "!lost.*")


def test_a_tag_selects_and_leaves_out() -> None:
    """`@TAG` is a pattern; a glob over names fits no tag."""
    nightly = names("@nightly")
    assert {"loss.fast", "life.million"} <= set(nightly)
    assert names("loss.*", "!@nightly") == ["loss.steady", "loss.small_ring", "loss.unread"]
    assert names("*smoke") == []
    assert unknown(["@smoke", "@somke", "!@nightly"]) == ("@somke",)


def test_the_smoke_test_is_a_dozen_that_cover_events_filters_and_loss() -> None:
    """The loss of nothing and its twin that must lose are both in it, and none that waits for the night."""
    smoke = select(["@smoke"])
    assert len(smoke) == 12
    assert {scenario.family for scenario in smoke} == {"truth", "approvers", "discarders", "doors", "loss"}
    assert {"loss.small_ring", "loss.unread", "loss.steady"} <= {scenario.name for scenario in smoke}
    assert not any("nightly" in scenario.tags for scenario in smoke)


def test_what_runs_only_by_night_repeats_a_promise_of_the_day() -> None:
    """By day each family is there, zero loss, counted loss and reload included."""
    by_day = set(names("!@nightly"))
    assert {"loss.steady", "loss.small_ring", "life.reload", "life.sigterm", "life.sigkill"} <= by_day
    assert {name.partition(".")[0] for name in names("@nightly")} == {"life", "loss"}


def test_by_name_takes_the_exact_name_only() -> None:
    assert by_name("truth.open") is CATALOGUE[0]
    assert by_name("truth.*") is None


def test_planning_imports_no_scenario_and_no_kernel() -> None:
    code = (
        "import sys, agent.selftest.catalogue, agent.selftest.protocol\n"
        "heavy = ('agent.kernel', 'agent.selftest.scenarios', 'ctypes')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_documentation_lists_them_all() -> None:
    page = (ROOT / "docs" / "selftest.md").read_text()
    table = page.partition("| scenario | proves | tags |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert table.splitlines() == [
        " ".join(["|", f"`{one.name}`", "|", one.proves, "|", *one.tags, "|"]) for one in CATALOGUE
    ]
