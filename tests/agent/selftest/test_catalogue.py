"""The catalogue: names, sentences, needs and tags are well formed; patterns select from it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent.events.model import EventType
from agent.selftest.catalogue import CATALOGUE, Scenario, by_name, select, unknown
from tests import ROOT
from tests.docs.pages import generator

EVENTS = {f"event:{kind.label}" for kind in EventType}


def names(*patterns: str) -> list[str]:
    return [scenario.name for scenario in select(patterns)]


def test_names_are_unique() -> None:
    assert len({scenario.name for scenario in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_each_scenario_has_one_sentence(scenario: Scenario) -> None:
    assert scenario.proves[0].isupper()
    assert scenario.proves.count(". ") == 0
    assert scenario.proves.endswith(".")
    assert scenario.name.islower()
    assert scenario.name.count(".") == 1
    assert scenario.cost > 0


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_needs_are_known_facts(scenario: Scenario) -> None:
    assert set(scenario.needs) <= EVENTS | {"kernel", "resolved", "refusals", "unhidden"}


def test_without_a_pattern_all_are_selected() -> None:
    assert names() == [scenario.name for scenario in CATALOGUE]


def test_patterns_select_and_exclude() -> None:
    assert names("truth.[our]*n*") == ["truth.open", "truth.unlink", "truth.rename", "truth.umount"]
    assert names("truth.[our]*n*", "!*.un*") == ["truth.open", "truth.rename", "truth.umount"]
    assert "loss.steady" not in names("!loss.*")
    assert names("!*") == []


def test_patterns_that_match_nothing_are_returned() -> None:
    assert unknown(["truth.*", "!loss.*", "trooth.*", "!lost.*"]) == ("trooth.*", "!lost.*")


def test_a_selection_is_made_once() -> None:
    """A plan of 1,000 cells asks for the same few ones 3,000 times, which was half of its time."""
    assert select(["truth.*", "!truth.open"]) is select(iter(["truth.*", "!truth.open"]))


def test_a_tag_selects_and_excludes() -> None:
    """`@TAG` is a pattern; a glob of names matches no tag."""
    nightly = names("@nightly")
    assert {"loss.fast", "life.million"} <= set(nightly)
    assert names("loss.*", "!@nightly") == ["loss.steady", "loss.small_ring", "loss.unread"]
    assert names("*smoke") == []
    assert unknown(["@smoke", "@somke", "!@nightly"]) == ("@somke",)


def test_twelve_smoke_tests_cover_events_filters_and_loss() -> None:
    """With a scenario that loses nothing and one that must lose events, and without nightly ones."""
    smoke = select(["@smoke"])
    assert len(smoke) == 12
    assert {scenario.family for scenario in smoke} == {"truth", "approvers", "discarders", "doors", "loss"}
    assert {"loss.small_ring", "loss.unread", "loss.steady"} <= {scenario.name for scenario in smoke}
    assert not any("nightly" in scenario.tags for scenario in smoke)


def test_nightly_scenarios_repeat_others() -> None:
    """Without them a run still has scenarios for no loss, counted loss, reload and signals.

    The programs that a cell does not use are verified only at night.
    """
    daily = set(names("!@nightly"))
    assert {"loss.steady", "loss.small_ring", "life.reload", "life.sigterm", "life.sigkill"} <= daily
    assert {name.partition(".")[0] for name in names("@nightly")} == {"life", "loss", "fairness", "shapes"}


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


def test_the_documentation_lists_all_scenarios() -> None:
    """`python packaging/pages.py docs/selftest.md` would change nothing."""
    page = (ROOT / "docs" / "selftest.md").read_text()
    assert generator.render(page) == page
    assert all(f"| `{scenario.name}` | {scenario.proves} |" in page for scenario in CATALOGUE)
