"""The models of results.json: what is valid, and which verdict and exit code follow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import report
from harness.errors import ConfigError
from harness.host import files
from harness.plan.matrix import Kernel
from harness.plan.plan import Plan, Selectors, make
from harness.report import junit, summary
from harness.results import agreement, exercise, model, results_file, scenarios
from harness.results.model import (
    Assertion,
    Attempt,
    CellReport,
    CellResult,
    Failure,
    Host,
    Results,
    RunInfo,
    Splat,
    TestResult,
)
from harness.results.verdict import Verdict
from harness.text import markdown, visible
from tests.harness.conftest import matrix_of
from tests.harness.report.made_up import a_cell, a_run, a_test

HOSTILE = "\x1b[31m</td>|`code` [x](javascript:y) @you <script>\x00\u202e\n| new row"


def made(plan: Plan, tests: dict[tuple[str, str], TestResult], cause: Attempt | None = None) -> Results:
    reports = {cell.id: CellReport(id=cell.id, closed=True, cause=cause) for cell in plan.cells}
    cells = model.cells_of(plan, reports, tests, {})
    return Results(
        run=RunInfo(
            id="r",
            started="2026-11-22T11:00:00+00:00",
            duration_s=1.0,
            argv=("harness", "run"),
            exit_code=model.exit_code(cells),
            complete=model.complete(cells),
            host=Host(cpus=2, memory_mib=1024, kernel="6.1"),
            accelerator="tcg",
            harness_version="0",
        ),
        cells=cells,
        totals=model.totals(cells),
    )


def _all(plan: Plan, verdict: Verdict = Verdict.PASS) -> dict[tuple[str, str], TestResult]:
    return {(cell, test): TestResult(name=test, verdict=verdict, reason="r") for cell, test in plan.pairs()}


def test_a_planned_test_without_a_result_is_not_run(plan: Plan) -> None:
    tests = _all(plan)
    del tests["6.1-auto", "truth.open"]
    found = made(plan, tests)
    assert found.totals == {Verdict.PASS: 5, Verdict.NOT_RUN: 1}
    assert (found.run.complete, found.run.exit_code) == (False, 4)
    assert found.cells[1].verdict is Verdict.NOT_RUN


def test_results_describe_planned_scenarios(plan: Plan) -> None:
    """Only those that are planned; a test of a suite has no description."""
    cells = model.cells_of(plan, {}, {}, {})
    suite = cells[0].model_copy(update={"tests": (TestResult(name="mine", verdict=Verdict.PASS),)})
    described = scenarios.of_cells([*cells, suite])
    assert list(described) == list(dict.fromkeys(test for _, test in plan.pairs()))
    assert described["truth.open"].needs == ("event:open",)
    assert described["truth.open"].proves.startswith("An open")


def test_a_run_without_cells_is_incomplete(plan: Plan) -> None:
    assert made(plan, {}).run.exit_code == 4


def test_a_cell_has_the_worst_verdict_of_its_tests(plan: Plan) -> None:
    tests = _all(plan)
    tests["5.10-auto", "truth.unlink"] = TestResult(name="truth.unlink", verdict=Verdict.FAIL, reason="x")
    cell = made(plan, tests).cells[0]
    assert (cell.verdict, cell.reason) == (Verdict.FAIL, "x")


def test_a_cell_that_failed_beside_its_tests_is_not_a_pass(plan: Plan) -> None:
    cause = Attempt(verdict=Verdict.CRASH, reason="panic in teardown")
    assert made(plan, _all(plan), cause).run.exit_code == 1


def test_a_verdict_other_than_pass_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="SKIP needs a reason"):
        TestResult(name="a", verdict=Verdict.SKIP)


@given(st.data())
def test_every_planned_test_ends_in_exactly_one_verdict(data: st.DataObject) -> None:
    plan = make(matrix_of("5.10", "6.1"), Selectors())
    some = data.draw(st.lists(st.sampled_from(plan.pairs()), unique=True))
    verdicts = {pair: data.draw(st.sampled_from(list(Verdict))) for pair in some}
    tests = {
        pair: TestResult(name=pair[1], verdict=verdict, reason="r") for pair, verdict in verdicts.items()
    }
    found = made(plan, tests)
    assert agreement.disagreements(plan, found) == []
    assert sum(found.totals.values()) == len(plan.pairs())
    assert found.run.complete == (len(some) == len(plan.pairs()) and Verdict.NOT_RUN not in verdicts.values())


def test_plan_and_results_that_differ_are_reported(plan: Plan) -> None:
    found = made(plan, _all(plan))
    assert agreement.disagreements(plan.narrowed(plan.pairs()[1:]), found) == [
        "5.10-auto truth.open: in the results, and not planned"
    ]
    fewer = found.model_copy(update={"cells": found.cells[1:] + found.cells[1:]})
    lines = agreement.disagreements(plan, fewer)
    assert "5.10-auto truth.open: planned, and not in the results" in lines
    assert "6.1-auto truth.open: twice in the results" in lines


class Compared(str):
    """A name that counts how often it is compared."""

    times = 0

    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.times += 1
        return str.__eq__(self, other)


def test_the_work_of_comparing_plan_and_results_grows_with_the_tests(plan: Plan) -> None:
    """Not with their square: 24,000 tests took 20 s, in which no signal ends the run."""
    found = made(plan, _all(plan))
    names = [f"truth.n{number}" for number in range(500)]
    cell = plan.cells[0].model_copy(update={"tests": tuple(map(Compared, names))})
    test = found.cells[0].tests[0]
    tests = tuple(test.model_copy(update={"name": Compared(name)}) for name in names)
    result = found.cells[0].model_copy(update={"tests": tests})
    Compared.times = 0
    one = plan.model_copy(update={"cells": (cell,)})
    assert agreement.disagreements(one, found.model_copy(update={"cells": (result,)})) == []
    assert Compared.times < 10 * len(names)


def test_the_schema_in_the_package_is_that_of_the_models() -> None:
    assert report.SCHEMA_PATH.read_text() == model.schema_text(), "harness report --schema > it"


def test_results_fit_their_schema_and_come_back(plan: Plan, tmp_path: Path) -> None:
    found = made(plan, _all(plan))
    jsonschema.validate(json.loads(found.to_json()), json.loads(model.schema_text()))
    results_file.write(found, tmp_path)
    assert results_file.load(tmp_path / "results.json") == found
    assert json.loads(found.to_json())["schema"] == 1


@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "{}", lambda text: ""])
def test_a_damaged_results_file_is_a_config_error(plan: Plan, tmp_path: Path, damage: object) -> None:
    path = tmp_path / "results.json"
    path.write_text(damage(made(plan, _all(plan)).to_json()))  # type: ignore[operator]
    with pytest.raises(ConfigError, match="not a results file"):
        results_file.load(path)


def test_wrong_totals_are_refused(plan: Plan, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(made(plan, _all(plan, Verdict.FAIL)).to_json().replace('"FAIL":6', '"PASS":6'))
    with pytest.raises(ConfigError, match="totals"):
        results_file.load(path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_junit_distinguishes_classes_of_verdicts(plan: Plan) -> None:
    tests = _all(plan)
    for test, verdict in (("truth.open", "FAIL"), ("truth.unlink", "INFRA"), ("truth.rename", "SKIP")):
        tests["5.10-auto", test] = TestResult(name=test, verdict=Verdict(verdict), reason=HOSTILE)
    suites = ET.fromstring(junit.render(made(plan, tests))).findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["5.10-auto", "6.1-auto"]
    tags = [[child.tag for child in case] for case in suites[0].findall("testcase")]
    assert tags == [["failure"], ["error"], ["skipped"]]
    assert suites[0].get("failures") == "1"


def test_the_summary_shows_hostile_text_as_text(plan: Plan) -> None:
    tests = _all(plan)
    tests["5.10-auto", "truth.open"] = TestResult(name="truth.open", verdict=Verdict.FAIL, reason=HOSTILE)
    text = summary.render(made(plan, tests))
    assert "<script>" not in text
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith("| new row")]
    assert "| truth.open | ✗ FAIL | ✓ PASS |" in text


@given(st.text())
def test_markdown_is_one_line_without_markup(text: str) -> None:
    escaped = markdown(text)
    assert "\n" not in escaped
    assert "<" not in escaped
    assert all(ord(letter) >= 32 for letter in escaped)


@given(st.text())
def test_visible_text_cannot_move_a_cursor(text: str) -> None:
    assert all(letter in "\t\n" or ord(letter) >= 32 for letter in visible(text))


def test_a_summary_that_is_too_long_is_cut_and_says_so() -> None:
    short = summary.cut("line\n" * 1000, 200)
    assert len(short.encode()) <= 200
    assert short.endswith("… cut here; results.json has the rest\n")


def test_a_hook_set_that_no_cell_exercised_fails_a_whole_run(plan: Plan) -> None:
    declared = plan.model_copy(update={"exercise": ("auto", "lsm")})
    passed = made(declared, _all(plan)).cells
    assert exercise.unexercised(declared, passed) == [
        "hook set lsm: declared in the matrix, and no cell of the whole run exercised it"
    ]
    assert model.exit_code(passed, ["a line"]) == 1
    skipped = made(declared, _all(plan, Verdict.SKIP)).cells
    assert len([line for line in exercise.unexercised(declared, skipped) if "hook set" in line]) == 2
    lost = made(declared, _all(plan, Verdict.INFRA)).cells
    assert exercise.unexercised(plan.model_copy(update={"exercise": ("auto",)}), lost) == []


def test_a_test_that_every_cell_skipped_fails_a_whole_run(plan: Plan) -> None:
    """The error has its name and the first reason; one cell that ran it, or was lost, is enough."""
    whole = plan.model_copy(update={"exercise": ("auto",)})
    tests = _all(whole)
    skip = TestResult(name="truth.open", verdict=Verdict.SKIP, reason="no hook for open fires")
    tests["5.10-auto", "truth.open"] = tests["6.1-auto", "truth.open"] = skip
    skipped = made(whole, tests).cells
    assert exercise.unexercised(whole, skipped) == [
        "truth.open: no cell of the whole run could run it: no hook for open fires"
    ]
    assert exercise.unexercised(plan, skipped) == []  # a selection proves nothing about the rest
    for verdict in (Verdict.PASS, Verdict.NOT_RUN):
        tests["6.1-auto", "truth.open"] = skip.model_copy(update={"verdict": verdict})
        assert exercise.unexercised(whole, made(whole, tests).cells) == []


def test_a_test_that_needs_a_faster_host_is_noted(plan: Plan) -> None:
    """A host that cannot make 20,000 events a second proves no fault of the agent."""
    cells = [cell.model_copy(update={"tests": (*cell.tests, "loss.fast")}) for cell in plan.cells]
    whole = plan.model_copy(update={"cells": tuple(cells), "exercise": ("auto",)})
    tests = _all(whole)
    slow = TestResult(name="loss.fast", verdict=Verdict.SKIP, reason="this CPU made 16,041")
    tests["5.10-auto", "loss.fast"] = tests["6.1-auto", "loss.fast"] = slow
    found = made(whole, tests).cells
    assert exercise.unexercised(whole, found) == []
    assert exercise.untried(whole, found) == [
        "loss.fast: could not be tried on this host: this CPU made 16,041"
    ]
    assert exercise.untried(whole, made(whole, _all(whole)).cells) == []


def test_results_with_a_cell_or_a_test_twice_are_refused() -> None:
    """The later one would hide the earlier one."""
    cell = a_cell("6.1", tests=(a_test("truth.open"), a_test("truth.exec")))
    assert results_file.contradiction(a_run(cell)) == ""
    assert results_file.contradiction(a_run(cell, cell)) == f"{cell.id} appears twice"
    twice = a_cell("6.1", tests=(a_test("truth.open"), a_test("truth.open")))
    assert results_file.contradiction(a_run(twice)) == f"{twice.id}::truth.open appears twice"


@pytest.mark.parametrize(
    ("old", "new", "lie"),
    [
        ('"exit_code":1', '"exit_code":0', "exit code 0"),
        ('"exit_code":1', '"exit_code":3', "exit code 3, and its cells end with 1"),
        ('"complete":false', '"complete":true', "marked as complete"),
        ('"verdict":"NOT_RUN"', '"verdict":"SKIP"', "one of its tests is worse"),
    ],
)
def test_results_that_contradict_themselves_are_refused(
    plan: Plan, tmp_path: Path, old: str, new: str, lie: str
) -> None:
    tests = _all(plan)
    tests["5.10-auto", "truth.open"] = TestResult(name="truth.open", verdict=Verdict.FAIL, reason="x")
    tests["6.1-auto", "truth.open"] = TestResult(name="truth.open", verdict=Verdict.NOT_RUN, reason="x")
    text = made(plan, tests).to_json()
    assert old in text
    path = tmp_path / "results.json"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=lie):
        results_file.load(path)


@pytest.mark.parametrize("code", [256, -1, 2, 99])
def test_an_exit_code_that_no_run_has_is_refused(code: int) -> None:
    """The kernel would truncate 256 to 0, which is success."""
    found = a_run(a_cell("6.1"), exit_code=code)
    assert results_file.contradiction(found) == f"no run ends with the exit code {code}"


def test_a_run_whose_harness_failed_is_no_success() -> None:
    found = a_run(a_cell("6.1"), failures=(Failure(what="it broke"),))
    assert results_file.contradiction(found) == "the run has exit code 0, and the harness failed: it broke"


def test_a_run_that_is_not_complete_is_no_success() -> None:
    incomplete = a_run(a_cell("6.1"), complete=False)
    assert results_file.contradiction(incomplete) == "the run has exit code 0, and is not marked as complete"


@pytest.mark.parametrize(
    ("evidence", "lie"),
    [
        ({"assertions": (Assertion(name="x", ok=False),)}, "and one of its assertions failed"),
        ({"splats": (Splat(kind="warning", line="WARNING: x"),)}, "and the kernel complained"),
        (
            {"attempts": (Attempt(verdict=Verdict.FAIL, reason="x"), Attempt(verdict=Verdict.PASS))},
            "and failed before",
        ),
    ],
)
def test_a_pass_that_its_evidence_contradicts_is_refused(evidence: dict[str, Any], lie: str) -> None:
    """The verdict would be FAIL, SPLAT or FLAKY."""
    cell = a_cell("6.1", tests=(a_test("truth.open", **evidence),))
    assert results_file.contradiction(a_run(cell)) == f"6.1-auto::truth.open is PASS, {lie}"


def test_a_cell_that_passes_with_a_complaint_of_the_kernel_is_refused() -> None:
    """Unless the complaint is allowed; a machine that was lost before is no contradiction."""

    def cell(allowed: str) -> CellResult:
        lost = Attempt(verdict=Verdict.BOOT_FAIL, reason="no command ran")
        splat = Splat(kind="warning", line="WARNING: x", allowed=allowed)
        return a_cell("6.1", splats=(splat,), attempts=(lost, Attempt(verdict=Verdict.PASS)))

    assert results_file.contradiction(a_run(cell(""))) == "6.1-auto is PASS, and the kernel complained"
    assert results_file.contradiction(a_run(cell("known"))) == ""


def test_results_of_another_kernel_are_found(plan: Plan) -> None:
    """A cell's name does not prove which kernel it has."""
    found = made(plan, _all(plan))
    kernel = found.cells[0].kernel.model_copy(update={"requested": "7.3"})
    other = found.cells[0].model_copy(update={"kernel": kernel})
    changed = found.model_copy(update={"cells": (other, *found.cells[1:])})
    (line,) = agreement.disagreements(plan, changed)
    assert line.startswith("5.10-auto: planned as 5.10 amd64 auto")


def test_results_of_a_kernel_of_the_user_agree_with_their_plan(plan: Plan) -> None:
    """What was requested is a path then, and no series."""
    own = Kernel(name="own", build="/home/me/linux")
    cells = tuple(cell.model_copy(update={"kernel": own}) for cell in plan.cells)
    planned = plan.model_copy(update={"cells": cells})
    assert agreement.disagreements(planned, made(planned, _all(planned))) == []


def test_results_of_another_variant_are_reported(plan: Plan) -> None:
    found = made(plan, _all(plan))
    other = found.cells[0].model_copy(update={"hookset": "lsm"})
    changed = found.model_copy(update={"cells": (other, *found.cells[1:])})
    assert agreement.disagreements(plan, changed) == [
        "5.10-auto: planned as 5.10 amd64 auto kernel ringbuf cloud vcpus=1, and the results are of 5.10 "
        "amd64 lsm kernel ringbuf cloud vcpus=1"
    ]


def test_a_cells_own_reason_is_in_every_report(plan: Plan) -> None:
    cause = Attempt(verdict=Verdict.SPLAT, reason="WARNING: at x.c")
    found = made(plan, _all(plan), cause)
    text = summary.render(found)
    assert "- ✗ SPLAT [5.10-auto](report.html#cell-5.10-auto): WARNING: at x.c" in text
    assert "✗ SPLAT: 3 PASS" in text
    cases = ET.fromstring(junit.render(found)).findall("testsuite/testcase[failure]")
    assert [case.get("name") for case in cases] == ["(the cell)", "(the cell)"]


def test_a_skip_among_passes_does_not_hide_them(plan: Plan) -> None:
    tests = _all(plan)
    tests["6.1-auto", "truth.open"] = TestResult(
        name="truth.open", verdict=Verdict.SKIP, reason="lsm is silent"
    )
    text = summary.render(made(plan, tests))
    assert "✓ PASS | ✓ PASS: 2 PASS, 1 SKIP |" in text


def test_a_load_that_was_expected_to_fail_is_no_failed_cell(plan: Plan) -> None:
    cause = Attempt(verdict=Verdict.FAIL, reason="load refused")
    known = _all(plan)
    for pair in known:
        known[pair] = TestResult(name=pair[1], verdict=Verdict.XFAIL, reason="why (link): load refused")
    assert made(plan, known, cause).run.exit_code == 0
    assert made(plan, known, cause.model_copy(update={"reason": "left behind: x"})).run.exit_code == 1
