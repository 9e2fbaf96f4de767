"""docs/tables.md agrees with the code, and with the facts of the run in docs/tables.json."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.events.model import EventType
from agent.hooks import needs, points, sets
from agent.selftest.catalogue import CATALOGUE
from harness import cli
from harness.errors import ConfigError
from harness.report import facts, tables
from harness.results.scenarios import of_catalogue
from harness.results.verdict import Verdict
from tests import ROOT
from tests.docs.pages import generator
from tests.harness.report.made_up import a_cell, a_run, a_test, every_verdict

DOCS = ROOT / "docs"
PAGE = DOCS / "tables.md"
HINT = "out of date: run `make docs`"


def test_the_tables_of_runs_and_scenarios_are_up_to_date() -> None:
    """`harness report docs/tables.json --tables docs/tables.md` would change nothing."""
    page = PAGE.read_text()
    assert tables.render(page, facts.read(DOCS / "tables.json"), of_catalogue()) == page, HINT


def test_the_tables_of_hooks_are_up_to_date() -> None:
    """`python packaging/pages.py docs/tables.md` would change nothing."""
    page = PAGE.read_text()
    assert generator.render(page) == page, HINT


def test_nothing_is_left_out() -> None:
    """There is a line for each scenario, hook set, event type and point, and for each kernel of the run."""
    page = PAGE.read_text()
    names = [scenario.name for scenario in CATALOGUE] + [*sets.SETS, *points.POINTS]
    names += [event.label for event in EventType if event in needs.EVENTS]
    assert [name for name in names if f"\n| `{name}` |" not in page] == []
    assert [
        cell.kernel for cell in facts.read(DOCS / "tables.json").cells if f"\n| {cell.kernel} |" not in page
    ] == []


def test_facts_of_a_run_are_kept_and_read_again(tmp_path: Path) -> None:
    """The page is made from the facts that are written beside it; a second time changes nothing."""
    found = every_verdict()
    (tmp_path / "results.json").write_text(found.to_json())
    page = tmp_path / "tables.md"
    shutil.copy(PAGE, page)
    for source in (tmp_path, tmp_path / "tables.json"):
        assert cli.main(["report", str(source), "--tables", str(page)]) == 0
        assert facts.read(tmp_path / "tables.json") == facts.of_run(found)
        assert page.read_text() == tables.render(PAGE.read_text(), facts.of_run(found), of_catalogue())


def test_a_system_call_names_the_kernels_on_which_its_test_did_not_pass() -> None:
    """The table has a column for each hook set; a cell counts what passed, and names the other kernels."""
    opened = [
        a_test("doors.at"),
        a_test("doors.at", Verdict.SKIP, "cannot"),
        a_test("doors.at", Verdict.FAIL, "broke"),
    ]
    cells = (
        a_cell(kernel, tests=(test,)) for kernel, test in zip(("7.3", "6.1", "5.10"), opened, strict=True)
    )
    lines = list(tables.system_calls(facts.of_run(a_run(*cells)), of_catalogue()))
    assert lines[0] == "| scenario | auto |"
    assert "| `doors.at` | ✓ 1, ○ SKIP 1 \\(6.1\\), ✗ FAIL 1 \\(5.10\\) |" in lines
    assert "| `doors.openat2` | not run with this hook set |" in lines


def test_the_largest_program_is_one_that_is_in_use() -> None:
    (found,) = facts.of_run(a_run(a_cell("5.10"))).cells
    assert found.largest == ("fim_mount", 812 + 13 * 6 + 4)
    assert found.programs == 7
    assert found.partly == {"setxattr": "degraded"}


def test_the_verdict_of_each_test_is_stored() -> None:
    """As one letter for each test: cells may have chosen different ones."""
    here = a_cell("5.10", tests=(a_test("truth.open"), a_test("doors.at", Verdict.SKIP, "cannot")))
    there = a_cell("6.1", tests=(a_test("doors.at", Verdict.CRASH, "panic"),))
    known = facts.of_run(a_run(here, there))
    assert known.tests == ("truth.open", "doors.at")
    assert [cell.ended for cell in known.cells] == ["+s", ".C"]
    assert [(cell.id, ended) for cell, ended in known.ended("doors.at", known.cells)] == [
        ("5.10-auto", Verdict.SKIP),
        ("6.1-auto", Verdict.CRASH),
    ]
    assert set(facts.LETTERS) == set(Verdict)
    assert len(set(facts.LETTERS.values())) == len(Verdict)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"facts": 2}')
    with pytest.raises(ConfigError, match="not a results file"):
        facts.read(tmp_path / "x.json")


@pytest.mark.parametrize("made", [tables.render, lambda page, *_: generator.render(page)])
def test_handwritten_text_stays(made: object) -> None:
    assert callable(made)
    page = "a\n<!-- begin: other -->\nmine\n<!-- end: other -->\nb\n"
    assert made(page, facts.of_run(a_run()), of_catalogue()) == page
