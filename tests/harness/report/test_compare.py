"""Comparing two runs: the name of each change, and what counts as a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness import cli
from harness.report.compare import text as compare_text
from harness.report.compare.changes import Kind, kind_of, regressed
from harness.report.compare.comparison import compare
from harness.results.model import Agent, CellResult, Failure, Hook, Results, TestResult
from harness.results.verdict import Verdict
from tests.harness.report.made_up import TESTS, a_cell, a_run, a_test, every_verdict, hooks

V = Verdict
VERDICTS = st.sampled_from(Verdict)


@st.composite
def runs(draw: st.DrawFn) -> Results:
    """Runs of some cells, each with some tests, with any verdicts."""
    kernels = draw(st.lists(st.sampled_from(["5.10", "6.1", "6.12", "7.3"]), min_size=1, unique=True))
    return a_run(*(a_cell(kernel, tests=draw(_tests())) for kernel in kernels))


@st.composite
def _tests(draw: st.DrawFn) -> tuple[TestResult, ...]:
    names = draw(st.lists(st.sampled_from(TESTS), min_size=1, unique=True))
    return tuple(a_test(name, draw(VERDICTS), duration_s=draw(st.floats(0, 99))) for name in names)


def one(verdict: Verdict) -> Results:
    """A run of one test."""
    return a_run(a_cell("6.1", tests=(a_test("truth.open", verdict),)))


@given(runs())
def test_a_run_does_not_differ_from_itself(run: Results) -> None:
    """Unless nothing passed in it."""
    assume(run.totals.get(V.PASS))
    found = compare(run, run)
    assert found.empty
    assert found.exit_code == 0
    assert "Nothing changed" in compare_text.to_markdown(found)


@given(runs(), runs())
def test_a_new_test_is_gone_in_the_reverse_comparison(old: Results, new: Results) -> None:
    there, back = compare(old, new), compare(new, old)
    assert {(entry.cell, entry.test) for entry in there.new} == {
        (entry.cell, entry.test) for entry in back.gone
    }
    assert len(there.changes) == len(back.changes)
    assert not {(c.cell, c.test) for c in there.regressions} & {(c.cell, c.test) for c in back.regressions}


@pytest.mark.parametrize(
    ("old", "new", "kind", "regression"),
    [
        (V.PASS, V.FAIL, Kind.NEWLY_FAILING, True),
        (V.SKIP, V.CRASH, Kind.NEWLY_FAILING, True),
        (V.XFAIL, V.SPLAT, Kind.NEWLY_FAILING, True),
        (V.INFRA, V.FAIL, Kind.NEWLY_FAILING, True),
        (V.FLAKY, V.FAIL, Kind.NEWLY_FAILING, True),
        (V.FAIL, V.CRASH, Kind.WORSE, True),
        (V.CRASH, V.FAIL, Kind.MILDER, False),
        (V.FAIL, V.FLAKY, Kind.MILDER, False),
        (V.PASS, V.FLAKY, Kind.NEWLY_FLAKY, True),
        (V.XPASS, V.FLAKY, Kind.NEWLY_FLAKY, True),
        (V.XFAIL, V.XPASS, Kind.UNEXPECTED_PASS, False),
        (V.PASS, V.SKIP, Kind.NEWLY_SKIPPED, False),
        (V.FAIL, V.XFAIL, Kind.EXCUSED, False),
        (V.PASS, V.NOT_RUN, Kind.LOST, False),
        (V.PASS, V.BOOT_FAIL, Kind.LOST, False),
        (V.FAIL, V.PASS, Kind.FIXED, False),
        (V.INFRA, V.PASS, Kind.KNOWN_AGAIN, False),
        (V.SKIP, V.PASS, Kind.PASSING, False),
        (V.XPASS, V.PASS, Kind.PASSING, False),
    ],
)
def test_each_change_of_a_verdict_has_its_kind(
    old: Verdict, new: Verdict, kind: Kind, regression: bool
) -> None:
    assert kind_of(old, new) is kind
    assert regressed(old, new) is regression
    (change,) = compare(one(old), one(new)).changes
    assert (change.kind, change.regression) == (kind, regression)


@given(VERDICTS, VERDICTS)
def test_every_pair_of_verdicts_has_a_kind(old: Verdict, new: Verdict) -> None:
    assert kind_of(old, new) in Kind


def test_a_cells_own_verdict_counts() -> None:
    """If the kernel complains after the last test, the cell has a verdict that no test has."""
    splat = a_cell("6.1", verdict=V.SPLAT, reason="WARNING: at exit")
    (change,) = compare(a_run(a_cell("6.1")), a_run(splat)).changes
    assert (change.test, change.kind, change.regression) == ("", Kind.NEWLY_FAILING, True)


def test_a_new_cell_that_fails_is_a_regression() -> None:
    """A new kernel that fails from its first day is reported as one."""
    failing = a_cell("7.3", tests=(a_test("truth.open", V.FAIL),))
    found = compare(a_run(a_cell("6.1")), a_run(a_cell("6.1"), failing))
    assert [(entry.cell, entry.verdict) for entry in found.new] == [("7.3-auto", V.FAIL)]
    assert found.exit_code == 1
    assert "✗ FAIL" in compare_text.to_markdown(found)


def test_a_kernel_with_another_release() -> None:
    cell = a_cell("6.1")
    package = cell.kernel.packages[0].model_copy(update={"version": "6.1.43-1", "sha256": "cd" * 32})
    kernel = cell.kernel.model_copy(update={"packages": (package,)})
    found = compare(a_run(cell), a_run(cell.model_copy(update={"kernel": kernel})))
    (move,) = found.kernels
    assert (move.gone, move.new) == (((package.name, "6.1.42-1"),), ((package.name, "6.1.43-1"),))


def test_other_hooks_and_their_instructions() -> None:
    moved = hooks("6.1", "kprobe")
    heavier = (moved[0].model_copy(update={"insns": 4096}), *moved[1:])
    found = compare(a_run(a_cell("6.1")), a_run(a_cell("6.1", hooks=heavier)))
    assert found.rungs[0].event == "open.resolve"
    assert found.rungs[0].new == (("kprobe", "security_file_open"),)
    assert [(row.program, row.new) for row in found.instructions] == [("fim_open", 4096)]


def test_the_order_of_hooks_is_no_change() -> None:
    turned = tuple(reversed(hooks("6.1")))
    assert compare(a_run(a_cell("6.1")), a_run(a_cell("6.1", hooks=turned))).empty


def test_a_capability_that_went_silent() -> None:
    found = compare(a_run(a_cell("6.1")), a_run(a_cell("6.1", capabilities={"lsm": "silent"})))
    assert ("lsm", "fires", "silent") in [(row.type, row.old, row.new) for row in found.capabilities]


def test_a_cell_that_never_loaded_has_no_other_hooks() -> None:
    assert not compare(a_run(a_cell("6.1")), a_run(a_cell("6.1", hooks=(), capabilities={}))).rungs


def test_hostile_text_stays_text() -> None:
    """A guest's text cannot forge a table cell, a link, a mention or HTML in Markdown."""
    reason = "x | y\n| [a](b) <script>alert(1)</script> @everyone \x1b[2J \udc80"
    cell = a_cell("6.1", tests=(a_test("truth.open", V.FAIL, reason),))
    text = compare_text.to_markdown(compare(one(V.PASS), a_run(cell)))
    assert "<script" not in text
    assert " @everyone" not in text
    text.encode()
    json.loads(compare_text.to_json(compare(one(V.PASS), a_run(cell))))


def test_long_tables_are_cut_and_say_so() -> None:
    cells: list[CellResult] = [a_cell(f"6.{n}") for n in range(60)]
    text = compare_text.to_markdown(compare(a_run(), a_run(*cells)))
    assert "### New (60)" in text
    assert "… and 35 more" in text


def test_a_hook_without_a_program_has_no_instructions_to_compare() -> None:
    bare = (Hook(event="open"),)
    assert compare(a_run(a_cell("6.1", hooks=bare)), a_run(a_cell("6.1", hooks=bare))).empty


@pytest.mark.parametrize(("new", "code"), [(V.FAIL, 1), (V.PASS, 0), (V.SKIP, 4), (V.INFRA, 4)])
def test_the_command_exits_1_only_for_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], new: Verdict, code: int
) -> None:
    (tmp_path / "old.json").write_text(one(V.PASS).to_json())
    (tmp_path / "new.json").write_text(one(new).to_json())
    words = ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json"), "--json"]
    assert cli.main([*words, "--output", str(tmp_path / "out")]) == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.json", "compare.md"]


@pytest.mark.parametrize("text", ["", "{", '{"schema": 2}', "[]", '{"schema": 1, "run": {}}'])
def test_an_invalid_results_file_is_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (tmp_path / "old.json").write_text(text)
    (tmp_path / "new.json").write_text(every_verdict().to_json())
    assert cli.main(["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "old.json" in captured.err


def cells(*names: str, verdict: Verdict = V.PASS) -> Results:
    """A run of these kernels, with two tests each."""
    tests = tuple(a_test(name, verdict) for name in TESTS[:2])
    return a_run(*(a_cell(name, tests=tests) for name in names))


def test_runs_without_a_common_cell_do_not_compare() -> None:
    """The comparison says so, and does not succeed."""
    found = compare(cells("5.10", "6.1"), cells("6.12", "7.3"))
    assert found.exit_code == 4
    text = compare_text.to_markdown(found)
    assert text.startswith("## ⚠ Not comparable: the runs have no test in common; 2 new, 2 gone")
    assert "✓" not in text


def test_runs_that_lost_most_of_their_cells_do_not_compare() -> None:
    """The missing cells are counted."""
    found = compare(cells("5.10", "6.1", "6.12"), cells("6.12"))
    assert found.exit_code == 4
    assert "4 of 6 tests of the old run are gone" in compare_text.to_markdown(found)
    half = compare(cells("5.10", "6.1"), cells("6.1"))
    assert half.exit_code == 4
    assert "2 of 4 tests of the old run are gone" in compare_text.to_markdown(half)
    fewer = compare(cells("5.10", "6.1", "6.12"), cells("6.1", "6.12"))
    assert fewer.exit_code == 0
    assert compare_text.to_markdown(fewer).startswith("## ✓ No regression: 1 gone")


def test_one_new_failure_among_lost_cells_is_a_regression() -> None:
    """The headline names the missing cells as well."""
    failing = a_cell("7.3", tests=(a_test("truth.open", V.FAIL),))
    found = compare(cells("5.10", "6.1", "6.12"), a_run(failing, *cells("6.12").cells))
    assert found.exit_code == 1
    headline = compare_text.to_markdown(found).splitlines()[0]
    assert headline.startswith("## ✗ The product regressed in 1: 1 new, 2 gone")
    assert headline.endswith("4 of 6 tests of the old run are gone")


@pytest.mark.parametrize("verdict", [V.SKIP, V.INFRA, V.NOT_RUN])
def test_a_tick_stands_only_where_something_passed(verdict: Verdict) -> None:
    """A comparison in which nothing is known or nothing passed has no tick."""
    unknown = cells("6.1", verdict=verdict)
    for old in (cells("6.1"), unknown):
        found = compare(old, unknown)
        assert found.exit_code == 4
        text = compare_text.to_markdown(found)
        assert text.startswith("## ⚠ Not comparable: no test that both runs have passed in the new run")
        assert "✓" not in text


@pytest.mark.parametrize("verdict", [V.INFRA, V.FAIL])
def test_a_failure_of_the_harness_is_not_hidden_by_a_cell_with_its_exit_code(verdict: Verdict) -> None:
    """It says that results may lack something; one that a cell has as its verdict is shown by that."""
    old, cell = cells("5.10", "6.1", "6.12"), cells("6.12", verdict=verdict).cells
    for failure, code in ((Failure(what="it broke"), 4), (Failure(what="it broke", cell="6.12-auto"), 0)):
        new = a_run(*cells("5.10", "6.1").cells, *cell, failures=(failure,))
        found = compare(old, new)
        assert found.exit_code == (1 if verdict is V.FAIL else code)
        assert bool(found.failure) == (code == 4)


@pytest.mark.parametrize("verdict", [V.SKIP, V.INFRA, V.NOT_RUN])
def test_runs_of_which_most_lost_their_verdict_do_not_compare(verdict: Verdict) -> None:
    """A test without a verdict counts as missing."""
    old = cells("5.10", "6.1", "6.12")
    new = a_run(*cells("5.10", "6.1", verdict=verdict).cells, *cells("6.12").cells)
    found = compare(old, new)
    assert found.exit_code == 4
    assert "4 of 6 tests of both runs lost their verdict" in compare_text.to_markdown(found)
    fewer = a_run(*cells("5.10", verdict=verdict).cells, *cells("6.1", "6.12").cells)
    assert "lost their verdict" not in compare_text.to_markdown(compare(old, fewer))


def test_an_incomplete_new_run_is_no_success() -> None:
    """Whatever the verdicts of its tests."""
    run = cells("6.1")
    new = run.model_copy(update={"run": run.run.model_copy(update={"complete": False})})
    found = compare(run, new)
    assert found.exit_code == 4
    assert "the new run is incomplete" in compare_text.to_markdown(found)


@pytest.mark.parametrize(
    ("code", "kind", "ended"),
    [(1, Kind.NEWLY_FAILING, 1), (3, Kind.LOST, 4), (4, Kind.LOST, 4), (5, Kind.NEWLY_FAILING, 1)],
)
def test_a_run_that_failed_for_a_reason_that_no_cell_shows(code: int, kind: Kind, ended: int) -> None:
    """It is no success, and the hook set that no cell exercised, or the failure of the harness, is named."""
    old = cells("6.1")
    new = a_run(*old.cells, exit_code=code, notes=("hook set lsm: no cell exercised it",))
    found = compare(old, new)
    assert found.exit_code == ended
    (change,) = found.changes
    assert (change.cell, change.test, change.kind) == ("", "", kind)
    text = compare_text.to_markdown(found)
    assert "✓" not in text
    assert f"exit code {code}: hook set lsm: no cell exercised it" in text
    assert "| all | the run | PASS |" in text
    assert compare(new, new).exit_code == 4
    assert compare(new, old).exit_code == 0


@pytest.mark.parametrize("code", [1, 3, 4])
def test_an_exit_code_that_its_cells_explain_is_no_change(code: int) -> None:
    """The cells are compared; the exit code is not counted as well."""
    verdict = {1: V.FAIL, 3: V.INFRA, 4: V.NOT_RUN}[code]
    failing = a_cell("7.3", tests=(a_test("truth.open", verdict),))
    run = a_run(*cells("6.1", "6.12").cells, failing)
    assert run.run.exit_code == code
    assert compare(run, run).exit_code == 0


def test_runs_in_which_everything_was_mended_compare() -> None:
    """If nothing passed before and all passes now, there is no regression."""
    found = compare(cells("6.1", verdict=V.FAIL), cells("6.1"))
    assert found.exit_code == 0
    assert compare_text.to_markdown(found).startswith("## ✓ No regression: ")


def test_another_agent_is_named() -> None:
    """By bundle and commit; the same agent is not mentioned."""
    run = cells("6.1")
    agents = [Agent(bundle="ab" * 32, commit="ab" * 20, clean=True), Agent(bundle="cd" * 32, clean=False)]
    named = [run.run.model_copy(update={"agent": agent}) for agent in agents]
    old, new = (run.model_copy(update={"run": info}) for info in named)
    text = compare_text.to_markdown(compare(old, new))
    assert "The agent differs: bundle abababababab \\(commit abababababab\\) to bundle cdcdcdcdcdcd" in text
    assert "agent" not in compare_text.to_markdown(compare(old, old))


def test_a_comparison_of_two_large_runs_fits_a_job_summary() -> None:
    """2,000 cells with 60 new failures each: every table ends with the number of further rows."""
    tests = {
        verdict: tuple(a_test(f"t.{number}", verdict, reason) for number in range(60))
        for verdict, reason in ((V.PASS, ""), (V.FAIL, "x" * 2000))
    }
    old, new = (a_run(*(a_cell(f"6.{n}", tests=some) for n in range(2000))) for some in tests.values())
    text = compare_text.to_markdown(compare(old, new))
    assert len(text.encode()) < 1 << 20
    assert "… and 119975 more" in text


def test_a_cell_that_fails_on_one_host_and_passed_on_another_is_shown_as_such() -> None:
    old = a_run(a_cell("6.1", tests=(a_test("truth.open"),), host="alpha"))
    new = a_run(a_cell("6.1", tests=(a_test("truth.open", V.FAIL),), host="beta"))
    text = compare_text.to_markdown(compare(old, new))
    assert "PASS on alpha" in text
    assert "FAIL on beta" in text
    same = a_run(a_cell("6.1", tests=(a_test("truth.open", V.FAIL),), host="alpha"))
    assert "on alpha" not in compare_text.to_markdown(compare(old, same))
