"""docs/tables.md agrees with the code, and with the facts of the run in docs/tables.json."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.events.model import EventType
from agent.hooks import needs, points, sets
from agent.selftest.catalogue import CATALOGUE
from harness import cli
from harness.errors import ConfigError
from harness.plan import checked
from harness.plan.matrix import Matrix
from harness.plan.plan import whole_night
from harness.report import facts, history, night, tables
from harness.results import results_file
from harness.results.model import Agent, Results
from harness.results.scenarios import of_catalogue
from harness.results.verdict import Verdict
from tests import ROOT
from tests.docs.pages import generator
from tests.harness.conftest import matrix_of
from tests.harness.report.made_up import a_cell, a_run, a_test

DOCS = ROOT / "docs"
PAGE = DOCS / "tables.md"
HINT = "out of date: run `make docs`"
AGENT = Agent(bundle="ab" * 32, commit="cd" * 20, clean=True)


def stored() -> facts.RunFacts:
    """The facts beside the page."""
    found = facts.stored(DOCS / "tables.json")
    assert found
    return found


def test_the_tables_of_runs_and_scenarios_are_up_to_date() -> None:
    """`harness report docs/tables.json --tables docs/tables.md` would change nothing."""
    page = PAGE.read_text()
    left_out = night.left_out(stored(), checked.load(ROOT / "matrix.yaml"))
    assert tables.render(page, stored(), of_catalogue(), left_out) == page, HINT


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
    assert [cell.kernel for cell in stored().cells if f"\n| {cell.kernel} |" not in page] == []


def a_night(matrix: Matrix, *, without: str = "", **verdicts: Verdict) -> Results:
    """A whole night of a matrix, without one cell, or with another verdict of the first test of a kernel."""
    cells = []
    for cell in whole_night(matrix).cells:
        first = verdicts.get(f"of_{cell.kernel.name}", Verdict.PASS)
        tests = tuple(
            a_test(name, Verdict.PASS if number else first) for number, name in enumerate(cell.tests)
        )
        if cell.id != without:
            cells.append(a_cell(cell.kernel.name, cell.hookset, tests, closed=True))
    return a_run(*cells, agent=AGENT)


def test_facts_of_a_night_are_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is made from the facts that are written beside it; a second time changes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1", "7.3"]\nhooksets: [auto, kprobe]\n')
    found = a_night(checked.load(tmp_path / "matrix.yaml"))
    merged = found.model_copy(update={"cells": found.cells[::-1]})  # the shards were given in another order
    (tmp_path / "results.json").write_text(merged.to_json())
    page = tmp_path / "tables.md"
    shutil.copy(PAGE, page)
    for source in (tmp_path, tmp_path / "tables.json"):
        assert cli.main(["report", str(source), "--tables", str(page)]) == 0
        assert facts.stored(tmp_path / "tables.json") == facts.of_run(found)
        assert page.read_text() == tables.render(PAGE.read_text(), facts.of_run(found), of_catalogue())
    assert "\n| 7.3 |" in page.read_text()


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"without": "7.3-kprobe"}, "1 cell of 4 did not run: 7.3-kprobe"),
        ({"of_7.3": Verdict.FAIL}, "not as expected: 2 FAIL: 7.3-auto truth.open, 7.3-kprobe truth.open"),
        (
            {"of_6.1": Verdict.NOT_RUN},
            "not as expected: 2 NOT_RUN: 6.1-auto truth.open, 6.1-kprobe truth.open",
        ),
    ],
)
def test_a_page_is_made_of_a_complete_green_night_alone(
    change: dict[str, Any],
    lacks: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The command refuses another run with what is missing, and leaves the page as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1", "7.3"]\nhooksets: [auto, kprobe]\n')
    found = a_night(checked.load(tmp_path / "matrix.yaml"), **change)
    (tmp_path / "results.json").write_text(found.to_json())
    shutil.copy(PAGE, tmp_path / "tables.md")
    assert cli.main(["report", str(tmp_path), "--tables", "tables.md"]) == 2
    printed = capsys.readouterr().err
    assert "is not a complete, green night" in printed
    assert lacks in printed
    assert (tmp_path / "tables.md").read_text() == PAGE.read_text()
    assert not (tmp_path / "tables.json").exists()


@pytest.mark.parametrize("change", [{"of_7.3": Verdict.FLAKY}, {"exit_code": 1}])
def test_stored_facts_of_a_red_run_are_refused(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An older page may have been made from such a run; its facts do not make another one."""
    code = change.pop("exit_code", 0)
    known = facts.of_run(a_night(matrix_of("6.1", "7.3"), **change)).model_copy(update={"exit_code": code})
    (tmp_path / "old.json").write_text(known.to_json())
    shutil.copy(PAGE, tmp_path / "tables.md")
    assert cli.main(["report", str(tmp_path / "old.json"), "--tables", str(tmp_path / "tables.md")]) == 2
    printed = capsys.readouterr().err
    assert "is not a complete, green night" in printed
    assert ("7.3-auto truth.open (FLAKY)" if change else "exit code 1") in printed
    assert (tmp_path / "tables.md").read_text() == PAGE.read_text()


def test_results_are_not_validated_as_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each missing field costs a copy of the results: a night of 38 MB took gigabytes and three minutes."""
    path = tmp_path / "results.json"
    path.write_text(a_run(a_cell("6.1")).to_json())
    monkeypatch.setattr(results_file, "read_bounded", lambda path: pytest.fail(f"{path} was read"))
    assert facts.stored(path) is None
    assert [run.id for run in history.read([path]).runs] == [a_run().run.id]


def test_a_run_of_some_tests_is_no_night(tmp_path: Path) -> None:
    """Nor is one that was interrupted."""
    matrix = matrix_of("6.1")
    found = a_night(matrix)
    fewer = found.cells[0].model_copy(update={"tests": found.cells[0].tests[2:]})
    interrupted = found.run.model_copy(update={"complete": False})
    with pytest.raises(ConfigError) as caught:
        night.check(found.model_copy(update={"cells": (fewer,), "run": interrupted}), whole_night(matrix))
    assert "the run was interrupted" in caught.value.message
    assert "2 tests of cells that ran did not run: 6.1-auto truth.open, 6.1-auto" in caught.value.message


def test_a_night_that_did_not_look_for_what_all_cells_skip_is_refused() -> None:
    """A run of selected kernels may have every cell of the night, and demands nothing of a whole run."""
    matrix = matrix_of("6.1", "7.3")
    found = a_night(matrix)
    cells = [
        cell.model_copy(
            update={"tests": (a_test(cell.tests[0].name, Verdict.SKIP, "cannot"), *cell.tests[1:])}
        )
        for cell in found.cells
    ]
    with pytest.raises(ConfigError, match=r"truth\.open: no cell of the whole run could run it: cannot"):
        night.check(a_run(*cells, agent=AGENT), whole_night(matrix))


def test_an_incomplete_night_is_not_said_to_lack_hook_sets() -> None:
    """They may be in the cells that are missing."""
    matrix = matrix_of("6.1", hooksets=["auto", "kprobe"])
    with pytest.raises(ConfigError) as caught:
        night.check(a_night(matrix, without="6.1-kprobe"), whole_night(matrix))
    assert "6.1-kprobe" in caught.value.message
    assert "exercised" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "problem"), [("no.md", "No such file or directory"), (".", "Is a directory")]
)
def test_a_page_that_cannot_be_read_is_named(
    name: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / name
    assert cli.main(["report", str(DOCS / "tables.json"), "--tables", str(page)]) == 2
    assert capsys.readouterr().err.rstrip().endswith(f"{page}: cannot be read: {problem}")


def test_a_night_of_other_settings_is_refused() -> None:
    """A cell that has the name of a planned one and another command line is another cell."""
    matrix = matrix_of("6.1")
    found = a_night(matrix)
    other = found.cells[0].model_copy(update={"cmdline": "quiet"})
    with pytest.raises(ConfigError, match=r"6\.1-auto: planned as .* are of .* quiet"):
        night.check(found.model_copy(update={"cells": (other,)}), whole_night(matrix))


def test_tables_have_kernels_down_and_hook_sets_across() -> None:
    """A test that did not pass on a kernel is missing in its count; a variant has a row of its own."""
    opened = [a_test("doors.at"), a_test("doors.at", Verdict.SKIP, "cannot")]
    cells = [a_cell(kernel, tests=(test,)) for kernel, test in zip(("7.3", "6.1"), opened, strict=True)]
    cells.append(a_cell("6.1", "kprobe", tests=(a_test("doors.at"),), transport="perf"))
    known = facts.of_run(a_run(*cells))
    notes = tables.Notes(known)
    lines = list(tables.system_calls(known, of_catalogue()))
    assert lines[0] == "| scenario | auto |"
    assert "| `doors.at` | ✓ 1/2 |" in lines
    assert "| `doors.openat2` |  |" in lines
    assert list(tables.hooksets(known, notes))[2:] == ["| 7.3 | ✓ 1/1 |", "| 6.1 | ○ 0/1 \\[1\\] |"]
    assert "| kprobe · perf | 6.1 ✓ 1/1" in list(tables.variants(known, notes))[2]


def test_each_thing_that_is_not_seen_has_one_footnote() -> None:
    """Cells refer to it by its number; its event types are those of all cells."""
    links, names = "no links are followed", "a refused name is not seen"
    cells = [
        a_cell("6.1", "tracepoint", limits={"open": links, "unlink": names}),
        a_cell("7.3", "tracepoint", limits={"chmod": links}),
        a_cell("7.3", "auto", limits={}),
    ]
    known = facts.of_run(a_run(*cells))
    notes = tables.Notes(known)
    assert list(notes.lines()) == [
        "1. `open`, `chmod`: no links are followed",
        "2. `unlink`: a refused name is not seen",
    ]
    assert [notes.of(cell) for cell in known.cells] == [" [1] [2]", " [1]", ""]


def test_no_sentence_is_repeated() -> None:
    """A limit is a list of things; what one event type has besides is in the footnote of the thing."""
    arguments, hidden = "seen only in arguments: links are not resolved", "hidden by others; counted as lost"
    cells = [
        a_cell("6.1", "tracepoint", limits={"open": f"{arguments}, nor are handles", "chmod": arguments}),
        a_cell("7.3", "tracepoint", limits={"exec": f"no refusal is seen; {hidden}", "fork": hidden}),
        a_cell("6.1", limits={"exec": "no refusal is seen"}),
    ]
    known = facts.of_run(a_run(*cells))
    notes = tables.Notes(known)
    assert list(notes.lines()) == [
        f"1. `open`, `chmod`: {arguments} (`open`: nor are handles)",
        "2. `exec`: no refusal is seen",
        f"3. `exec`, `fork`: {hidden}",
    ]
    assert [notes.of(cell) for cell in known.cells] == [" [1]", " [2] [3]", " [2]"]


def test_two_cells_of_one_text_have_rows_of_their_own() -> None:
    """One command line can have two names, for different tests."""
    locked: dict[str, Any] = {"cmdline": "lockdown=integrity", "tests": (a_test("truth.open"),)}
    cells = [a_cell("6.1", id=f"6.1-auto-{name}", **locked) for name in ("lockable", "integrity")]
    known = facts.of_run(a_run(*cells, a_cell("7.3", id="7.3-auto-integrity", **locked)))
    assert list(tables.variants(known, tables.Notes(known)))[2:] == [
        "| auto · lockdown=integrity \\(lockable\\) | 6.1 ✓ 1/1 |",
        "| auto · lockdown=integrity \\(integrity\\) | 6.1 ✓ 1/1, 7.3 ✓ 1/1 |",
    ]


def test_a_suite_is_no_hook_set() -> None:
    cells = [a_cell("6.1"), a_cell("6.1", "service-12", tests=(a_test("command.service-12"),))]
    known = facts.of_run(a_run(*cells))
    assert next(tables.hooksets(known, tables.Notes(known))) == "| kernel | auto |"
    assert list(tables.variants(known, tables.Notes(known)))[2:] == ["| service-12 | 6.1 ✓ 1/1 |"]


def test_all_releases_of_a_kernel_are_listed() -> None:
    """Shards that ran when the archive moved have two."""
    moved = a_cell("6.1", "kprobe")
    kernel = moved.kernel.model_copy(update={"release": "6.1.0-99-cloud-amd64"})
    known = facts.of_run(a_run(a_cell("6.1"), moved.model_copy(update={"kernel": kernel})))
    assert "| 6.1 | 6.1.0-41-cloud-amd64, 6.1.0-99-cloud-amd64 | 6.1.42-1 |" in list(tables.kernels(known))[2]


def test_the_times_of_shards_are_named() -> None:
    found = a_run(a_cell("6.1"))
    merged = found.run.model_copy(update={"shards": {"1/2": 1800.0, "2/2": 2400.0}})
    (line,) = tables.run(facts.of_run(found.model_copy(update={"run": merged})))
    assert "(shards: 1/2 30 min, 2/2 40 min)." in line


def test_the_agent_of_the_night_is_named() -> None:
    """By its digest, the commit and the version; results of an older harness may have none of them."""
    agent = Agent(bundle="ab" * 32, commit="cd" * 20, clean=True)
    (line,) = tables.run(facts.of_run(a_run(a_cell("6.1"), agent=agent)))
    assert line.endswith(r". Agent: bundle abababababab \(commit cdcdcdcdcdcd\); harness 0.1.0.")
    (line,) = tables.run(facts.of_run(a_run(a_cell("6.1"), agent=Agent(bundle="ab" * 32))))
    assert line.endswith(r". Agent: bundle abababababab \(commit unknown\); harness 0.1.0.")
    (line,) = tables.run(facts.of_run(a_run(a_cell("6.1"))))
    assert line.endswith(". Agent: unknown; harness 0.1.0.")


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (AGENT.model_copy(update={"clean": False}), "uncommitted changes: bundle abababababab"),
        (AGENT.model_copy(update={"clean": None}), "uncommitted changes is not known: bundle abababababab"),
        (None, ""),
    ],
)
def test_a_night_of_an_agent_that_no_commit_has_is_refused(
    agent: Agent | None,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Or perhaps none: no reader could test it again. Its stored facts are refused too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1"]\n')
    night_of = a_night(checked.load(tmp_path / "matrix.yaml"))
    found = night_of.model_copy(update={"run": night_of.run.model_copy(update={"agent": agent})})
    (tmp_path / "results.json").write_text(found.to_json())
    (tmp_path / "old.json").write_text(facts.of_run(found).to_json())
    shutil.copy(PAGE, tmp_path / "tables.md")
    for source in ("results.json", "old.json"):
        assert cli.main(["report", source, "--tables", "tables.md"]) == 2
        printed = capsys.readouterr().err
        assert "is not a complete, green night" in printed
        assert words in printed
    assert (tmp_path / "tables.md").read_text() == PAGE.read_text()


def test_facts_that_lack_a_cell_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A conflict in docs/tables.json, which has a line for each cell, may be resolved in a wrong way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1", "7.3"]\n')
    known = facts.of_run(a_night(checked.load(tmp_path / "matrix.yaml")))
    fewer = known.model_copy(update={"cells": known.cells[:1]})
    (tmp_path / "old.json").write_text(fewer.to_json())
    shutil.copy(PAGE, tmp_path / "tables.md")
    assert cli.main(["report", "old.json", "--tables", "tables.md"]) == 2
    tests = len(known.tests)
    assert f"it has results of {tests:,} of {2 * tests:,} tests" in capsys.readouterr().err


def test_the_page_says_what_the_night_does_not_include(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cells of other tags, and what the matrix has since: the page is made of this night until the next."""
    monkeypatch.chdir(tmp_path)
    matrix = tmp_path / "matrix.yaml"
    matrix.write_text('kernels: ["6.1"]\ninclude: [{kernel: "6.1", hookset: lsm, tests: [truth.open]}]\n')
    found = facts.of_run(a_night(checked.load(matrix)))
    assert list(night.left_out(found, checked.load(matrix))) == []
    matrix.write_text(
        'kernels: ["6.1", "7.3"]\n'
        'include: [{kernel: "6.1", hookset: lsm, tests: [truth.open, truth.unlink]},\n'
        '          {kernel: "6.1", arch: arm64, tags: [arm64]}]\n'
    )
    (tmp_path / "facts.json").write_text(found.to_json())
    shutil.copy(PAGE, tmp_path / "tables.md")
    assert cli.main(["report", "facts.json", "--tables", "tables.md"]) == 0
    page = (tmp_path / "tables.md").read_text()
    for line in (
        "It does not include 1 cell of other tags: 6.1-arm64-auto.",
        "It does not include 1 cell that the matrix has now: 7.3-auto.",
        "It does not include 1 test that its cells have now: 6.1-lsm truth.unlink.",
    ):
        assert f"\n{line}\n" in page


def test_a_night_whose_cells_were_not_checked_is_refused() -> None:
    """Results of an older harness do not say whether they were."""
    matrix = matrix_of("6.1")
    found = a_night(matrix)
    cells = [cell.model_copy(update={"closed": None}) for cell in found.cells]
    with pytest.raises(ConfigError, match=r"the end of 1 cell was not checked: 6\.1-auto"):
        night.check(found.model_copy(update={"cells": tuple(cells)}), whole_night(matrix))


def test_a_night_on_guests_with_fewer_processors_is_refused() -> None:
    """Races between processors need two; results of an older harness do not say how many there were."""
    found = a_night(matrix_of("6.1"))
    matrix = matrix_of({"name": "6.1", "series": "6.1", "vcpus": "2"})
    night.check(found, whole_night(matrix))
    (cell,) = found.cells
    kernel = cell.kernel.model_copy(update={"flavour": "cloud", "vcpus": 1})
    other = found.model_copy(update={"cells": (cell.model_copy(update={"kernel": kernel}),)})
    with pytest.raises(
        ConfigError, match=r"planned as 6\.1 .* cloud vcpus=2, .* are of 6\.1 .* cloud vcpus=1"
    ):
        night.check(other, whole_night(matrix))


def test_a_page_without_a_night_says_so() -> None:
    page = "<!-- begin: run -->\nx\n<!-- end: run -->\n<!-- begin: kernels -->\ny\n<!-- end: kernels -->\n"
    made = tables.render(page, facts.of_run(a_run()), of_catalogue())
    assert "No complete, green night is recorded yet" in made
    assert "<!-- begin: kernels -->\n<!-- end: kernels -->" in made


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


@pytest.mark.parametrize(
    ("text", "problem"), [('{"facts": 2}', "not valid facts: facts:"), ("[]", "not a results file")]
)
def test_another_file_is_refused(
    text: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text(text)
    assert cli.main(["report", str(tmp_path / "x.json"), "--tables", str(PAGE)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("made", [tables.render, lambda page, *_: generator.render(page)])
def test_handwritten_text_stays(made: object) -> None:
    assert callable(made)
    page = "a\n<!-- begin: other -->\nmine\n<!-- end: other -->\nb\n"
    assert made(page, facts.of_run(a_run()), of_catalogue()) == page
