"""Merging the results of shards into those of one run."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import cli
from harness.errors import IncompleteError
from harness.plan.cells import Cell
from harness.plan.matrix import Kernel, Suite
from harness.plan.plan import Omitted, Plan
from harness.results import agreement, merge, results_file, shard_folders
from harness.results.model import Agent, CellResult, Failure, Results
from harness.results.shard_folders import Shard
from harness.results.verdict import Verdict
from tests.harness.report.made_up import a_cell, a_run, a_test, every_verdict

WHOLE = every_verdict()


def plan_of(*cells: CellResult) -> Plan:
    """The plan of a run with these cells."""
    return Plan(schema=1, cells=tuple(_planned(cell) for cell in cells))


def _planned(cell: CellResult) -> Cell:
    kernel = Kernel(name=cell.kernel.name, series=cell.kernel.requested)
    names = tuple(test.name for test in cell.tests)
    return Cell.model_validate({"id": cell.id, "kernel": kernel, "hookset": cell.hookset, "tests": names})


def shard(*cells: CellResult, folder: str = "shard") -> Shard:
    return Shard(Path(folder), plan_of(*cells), a_run(*cells))


def on_disk(folder: Path, found: Results) -> Path:
    """Write an output folder as a run does."""
    for cell in found.cells:
        (folder / "cells" / cell.id).mkdir(parents=True)
        (folder / "cells" / cell.id / "console.log").write_text(f"console of {cell.id}\n")
    (folder / "results.json").write_text(found.to_json())
    (folder / "plan.json").write_text(plan_of(*found.cells).to_json())
    return folder


@given(st.lists(st.integers(0, 3), min_size=len(WHOLE.cells), max_size=len(WHOLE.cells)))
def test_merged_shards_equal_the_whole_run(places: list[int]) -> None:
    """However the cells are distributed: the same cells, totals, exit code and completeness."""
    parts = [
        shard(*(cell for cell, place in zip(WHOLE.cells, places, strict=True) if place == number))
        for number in set(places)
    ]
    plan = plan_of(*WHOLE.cells)
    merged = merge.merge(plan, parts)
    assert merged.cells == WHOLE.cells
    assert merged.totals == WHOLE.totals
    assert (merged.run.exit_code, merged.run.complete) == (WHOLE.run.exit_code, WHOLE.run.complete)
    assert agreement.disagreements(plan, merged) == []
    assert merge.missing(plan, parts) == []
    assert set(merge.whole_plan(parts).pairs()) == set(plan.pairs())


def of_suite(kernel: str, **more: Any) -> Shard:
    """A shard with one cell of the suite `tool`."""
    found = a_cell(kernel, "tool", tests=(a_test("command.tool"),), hooks=())
    suite = Suite.model_validate({"name": "tool", "command": ["./tool"], "files": ["tool"]} | more)
    (cell,) = plan_of(found).cells
    planned = cell.model_copy(update={"suite": suite})
    return Shard(Path(f"of-{kernel}"), Plan(schema=1, cells=(planned,)), a_run(found))


@pytest.mark.parametrize(
    "change", [{"files": ["other/tool"]}, {"command": ["./tool", "-q"]}, {"timeout": "5m"}]
)
def test_a_suite_of_the_same_name_and_other_files_is_refused(change: dict[str, Any]) -> None:
    """In a shard and the plan, and in two shards; results have no more of a suite than its name."""
    one, same, other = of_suite("6.1"), of_suite("7.3"), of_suite("7.3", **change)
    assert merge.merge(merge.whole_plan([one, same]), [one, same]).run.exit_code == 0
    with pytest.raises(IncompleteError, match=r"suite tool: not the same in of-6\.1 and of-7\.3"):
        merge.merge(merge.whole_plan([one, other]), [one, other])
    with pytest.raises(IncompleteError, match=r"suite tool: not the same in of-7\.3 and the plan"):
        merge.merge(same.plan, [other])


def test_a_cell_that_no_shard_has_is_named_and_not_run() -> None:
    here, gone = a_cell("6.1"), a_cell("7.3")
    plan = plan_of(here, gone)
    merged = merge.merge(plan, [shard(here)])
    assert merge.missing(plan, [shard(here)]) == ["7.3-auto: planned, and in no shard"]
    assert {test.verdict for test in merged.cells[1].tests} == {Verdict.NOT_RUN}
    assert (merged.run.exit_code, merged.run.complete) == (4, False)


def test_a_test_that_no_shard_has_is_named_and_not_run() -> None:
    whole = a_cell("6.1")
    part = whole.model_copy(update={"tests": whole.tests[1:]})
    plan = plan_of(whole)
    (cell,) = merge.merge(plan, [Shard(Path("s"), plan, a_run(part))]).cells
    assert merge.missing(plan, [Shard(Path("s"), plan, a_run(part))]) == [
        "6.1-auto truth.open: planned, and in no shard"
    ]
    assert (cell.verdict, cell.tests[0].verdict) == (Verdict.NOT_RUN, Verdict.NOT_RUN)


def test_a_failure_counts_more_than_a_missing_cell() -> None:
    whole = a_cell("6.1", tests=(a_test("truth.open", Verdict.CRASH), a_test("truth.unlink")))
    part = whole.model_copy(update={"tests": whole.tests[:1]})
    merged = merge.merge(plan_of(whole), [Shard(Path("s"), plan_of(whole), a_run(part))])
    assert merged.cells[0].verdict is Verdict.CRASH
    assert merged.run.exit_code == 1


def test_the_same_cell_twice_is_one_cell() -> None:
    assert merge.merge(plan_of(a_cell("6.1")), [shard(a_cell("6.1"))] * 2).cells == (a_cell("6.1"),)


def test_the_same_cell_with_other_results_is_a_conflict() -> None:
    other = a_cell("6.1", tests=(a_test("truth.open", Verdict.FAIL),), host="beta")
    expected = r"6\.1-auto: different results in one \(PASS\) and two \(FAIL on beta\)"
    with pytest.raises(IncompleteError, match=expected):
        merge.merge(plan_of(a_cell("6.1")), [shard(a_cell("6.1"), folder="one"), shard(other, folder="two")])


def test_a_cell_without_a_plan_is_named() -> None:
    with pytest.raises(IncompleteError, match=r"7\.3-auto: in a shard, and not planned"):
        merge.merge(plan_of(a_cell("6.1")), [shard(a_cell("6.1"), a_cell("7.3"))])


def test_results_of_other_settings_are_refused() -> None:
    """A shard of another matrix can have a cell of the same name with another command line."""
    cell = a_cell("6.1").model_copy(update={"cmdline": "quiet"})
    with pytest.raises(IncompleteError, match=r"6\.1-auto: planned as .*, and the results are of .* quiet"):
        merge.merge(plan_of(a_cell("6.1")), [shard(cell)])


def test_a_cell_that_one_shard_ran_is_not_reported_as_omitted() -> None:
    one = shard(a_cell("6.1"))
    omitting = Plan(schema=1, cells=one.plan.cells, omitted=(Omitted(id="7.3-auto", reason="not selected"),))
    plan = merge.whole_plan([Shard(one.folder, omitting, one.results), shard(a_cell("7.3"))])
    assert [cell.id for cell in plan.cells] == ["6.1-auto", "7.3-auto"]
    assert plan.omitted == ()


def test_shards_that_planned_one_cell_differently_are_refused() -> None:
    fewer = a_cell("6.1", tests=(a_test("truth.open"),))
    with pytest.raises(IncompleteError, match="different plans in"):
        merge.whole_plan([shard(a_cell("6.1")), shard(fewer)])


def requiring(found: Shard, **required: Any) -> Shard:
    """A shard whose plan requires more of the whole run."""
    return dataclasses.replace(found, plan=found.plan.model_copy(update=required))


def skipping(name: str) -> Shard:
    """A shard whose only test is skipped, and whose agent attached nothing."""
    skipped = a_cell(name, tests=(a_test("truth.open", Verdict.SKIP, "no such hook"),), hooks=())
    return shard(skipped, folder=name)


@pytest.mark.parametrize("planned", [False, True])
def test_a_test_that_must_pass_is_judged_over_all_shards(planned: bool) -> None:
    """Also if the plan of the merge is that of `harness plan`, which has no --must-pass."""
    parts = [requiring(skipping(name), must_pass=True) for name in ("5.10", "6.1")]
    given = plan_of(*(cell for part in parts for cell in part.results.cells)) if planned else None
    merged = merge.merge(merge.whole_plan(parts, given), parts)
    assert merged.run.exit_code == 1
    assert "truth.open: passed in no cell: no such hook" in merged.run.notes
    passing = shard(a_cell("7.3", tests=(a_test("truth.open"),)), folder="7.3")
    both = [parts[0], requiring(passing, must_pass=True)]
    assert merge.merge(merge.whole_plan(both), both).run.exit_code == 0


def test_a_merge_requires_the_hook_sets_that_its_shards_require() -> None:
    """A hook set that no cell of any shard exercised fails the merged run."""
    parts = [requiring(skipping(name), exercise=("auto",)) for name in ("5.10", "6.1")]
    plan = merge.whole_plan(parts)
    merged = merge.merge(plan, parts)
    assert plan.exercise == ("auto",)
    assert merged.run.exit_code == 1
    assert any(note.startswith("hook set auto: ") for note in merged.run.notes)


def test_shards_with_and_without_must_pass_do_not_merge() -> None:
    parts = [requiring(skipping("5.10"), must_pass=True), skipping("6.1")]
    with pytest.raises(IncompleteError, match=r"5\.10 was run with --must-pass, and 6\.1 without it"):
        merge.whole_plan(parts)


def test_a_merge_names_the_runs_that_it_joins() -> None:
    """Also those of a merge that it joins, which itself is no longer one of them."""
    one, two, three = (
        dataclasses.replace(shard(found), results=a_run(found, id=f"run{number}"))
        for number, found in enumerate(map(a_cell, ("5.10", "6.1", "7.3")), 1)
    )
    first = merge.merge(merge.whole_plan([one, two]), [one, two])
    assert (first.run.id, first.run.parts) == ("run1-merged", ("run1", "run2"))
    merged = Shard(Path("m"), merge.whole_plan([one, two]), first)
    again = merge.merge(merge.whole_plan([merged, three]), [merged, three])
    assert again.run.parts == ("run1", "run2", "run3")


def test_a_merge_has_the_failures_of_the_harness_in_its_shards() -> None:
    """Each once, beside a cell that was lost: its exit code is the same."""
    lost = a_cell("6.1", tests=(a_test("truth.open", Verdict.INFRA),))
    failure = Failure(what="it broke", unexpected=True)
    parts = [shard(lost), shard(a_cell("7.3"))]
    parts = [
        dataclasses.replace(part, results=a_run(*part.results.cells, exit_code=3, failures=(failure,)))
        for part in parts
    ]
    merged = merge.merge(merge.whole_plan(parts), parts)
    assert (merged.run.exit_code, merged.run.failures) == (3, (failure,))


def test_the_number_of_kinds_of_hosts_is_a_word() -> None:
    parts = [shard(a_cell("5.10")), shard(a_cell("6.1"))]
    assert merge.merge(merge.whole_plan(parts), parts).run.notes == (
        "merged from 2 shards, run on hosts of one kind",
    )


def test_the_command_makes_one_folder(tmp_path: Path) -> None:
    """It has reports, plan and the evidence of every cell, as a single run would have."""
    parts = [on_disk(tmp_path / f"s{n}", a_run(*WHOLE.cells[n::3])) for n in range(3)]
    (tmp_path / "plan.json").write_text(plan_of(*WHOLE.cells).to_json())
    words = [
        "merge",
        *map(str, parts),
        "--plan",
        str(tmp_path / "plan.json"),
        "--output",
        str(tmp_path / "m"),
    ]
    assert cli.main(words) == 1
    assert results_file.load(tmp_path / "m" / "results.json").cells == WHOLE.cells
    names = {path.name for path in (tmp_path / "m").iterdir()}
    assert names == {
        "cells",
        "plan.json",
        "results.json",
        "junit.xml",
        "summary.md",
        "history.json",
        "report.html",
    }
    assert len(list((tmp_path / "m" / "cells").glob("*/console.log"))) == len(WHOLE.cells)
    assert not list(tmp_path.glob(".m.*"))


def test_a_missing_shard_is_named_and_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other results are written all the same, marked as incomplete."""
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    assert cli.main(["merge", str(here), str(tmp_path / "lost"), "--output", str(tmp_path / "m")]) == 4
    assert f"{tmp_path / 'lost'}: the shard is missing" in capsys.readouterr().err
    merged = results_file.load(tmp_path / "m" / "results.json")
    assert (merged.run.exit_code, merged.run.complete) == (4, False)


@pytest.mark.parametrize("how", ["same", "link", "copy"])
def test_a_shard_given_twice_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    """By its name, by a link such as out/latest, or as a copy: it would count as two shards."""
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    again = here if how == "same" else tmp_path / "again"
    if how == "link":
        again.symlink_to(here)
    elif how == "copy":
        shutil.copytree(here, again)
    assert cli.main(["merge", str(here), str(again), "--output", str(tmp_path / "m")]) == 2
    assert f"{again}: the same shard as {here}" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_planned_cell_in_no_shard_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (tmp_path / "plan.json").write_text(plan_of(a_cell("6.1"), a_cell("7.3")).to_json())
    words = ["merge", str(here), "--plan", str(tmp_path / "plan.json"), "--output", str(tmp_path / "m")]
    assert cli.main(words) == 4
    assert "7.3-auto: planned, and in no shard" in capsys.readouterr().err


def test_results_cut_in_the_middle_exit_2(tmp_path: Path) -> None:
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    text = (here / "results.json").read_text()
    (here / "results.json").write_text(text[: len(text) // 2])
    assert cli.main(["merge", str(here), "--output", str(tmp_path / "m")]) == 2
    assert not (tmp_path / "m").exists()


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    here = on_disk(tmp_path / "here", a_run(a_cell("6.1")))
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "mine").write_text("")
    assert cli.main(["merge", str(here), "--output", str(tmp_path / "m")]) == 2
    assert [path.name for path in (tmp_path / "m").iterdir()] == ["mine"]


HOSTILE = "6.1\x1b]0;owned\x07-auto"


@pytest.mark.parametrize("field", ["id", "arch", "cmdline", "uname"])
def test_escape_sequences_in_a_shard_are_refused(
    field: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names come from another host's file: no control character in them reaches the terminal."""
    cell = a_cell("6.1").model_copy(update={field: HOSTILE})
    folder = on_disk(tmp_path / "s", a_run(a_cell("6.1")))
    (folder / "results.json").write_text(a_run(cell).to_json())
    assert cli.main(["merge", str(folder), "--output", str(tmp_path / "m")]) == 2
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err
    assert f"cells.0.{field}" in captured.err


def test_escape_sequences_in_a_plan_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in results."""
    folder = on_disk(tmp_path / "s", a_run(a_cell("6.1")))
    text = (
        (folder / "plan.json")
        .read_text()
        .replace("6.1-auto", HOSTILE.encode("unicode_escape").decode().replace("\\x", "\\u00"))
    )
    (folder / "plan.json").write_text(text)
    assert cli.main(["merge", str(folder), "--output", str(tmp_path / "m")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_shard_beyond_the_limits_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limits hold for its results and for the files of a cell's folder."""
    folder = on_disk(tmp_path / "s", a_run(a_cell("6.1")))
    monkeypatch.setattr(shard_folders, "MAX_EVIDENCE", 1)
    assert cli.main(["merge", str(folder), "--output", str(tmp_path / "m")]) == 2
    assert not (tmp_path / "m").exists()
    monkeypatch.setattr(results_file, "MAX_BYTES", 1)
    assert cli.main(["merge", str(folder), "--output", str(tmp_path / "m")]) == 2
    assert capsys.readouterr().err.count("larger than") == 2


def test_bundles_that_differ_in_architectures_are_one_agent() -> None:
    """A shard's bundle has the files of its own architectures; the merged record has those of all."""
    amd = Agent(bundle="ab", objects={"amd64/x.o": "1"}, common="c")
    both = Agent(bundle="cd", objects={"amd64/x.o": "1", "arm64/x.o": "2"}, common="c")
    arm = Agent(bundle="ef", objects={"arm64/x.o": "2"}, common="c")
    a, b = a_cell("6.1"), a_cell("7.3")
    for first, second in ((amd, both), (both, amd), (arm, both)):
        assert merge.merge(plan_of(a, b), [_tested(a, first), _tested(b, second)]).run.agent == both
    merged = merge.merge(plan_of(a, b), [_tested(a, amd), _tested(b, arm)]).run.agent
    assert merged
    assert merged.objects == both.objects
    for changes in ({"common": "d"}, {"objects": {"amd64/x.o": "9"}}):
        other = amd.model_copy(update={"bundle": "x", **changes})
        with pytest.raises(IncompleteError, match="different agents"):
            merge.merge(plan_of(a, b), [_tested(a, both), _tested(b, other)])


def _tested(cell: CellResult, agent: Agent | None) -> Shard:
    one = shard(cell, folder=agent.bundle if agent else "none")
    run = one.results.run.model_copy(update={"agent": agent})
    return dataclasses.replace(one, results=one.results.model_copy(update={"run": run}))


def test_shards_of_different_agents_do_not_merge() -> None:
    """One run tests one agent; a shard that tested no agent fits any."""

    def tested(cell: CellResult, bundle: str) -> Shard:
        return _tested(cell, Agent(bundle=bundle) if bundle else None)

    a, b = a_cell("6.1"), a_cell("7.3")
    with pytest.raises(IncompleteError, match="different agents were tested in ab and cd"):
        merge.merge(plan_of(a, b), [tested(a, "ab"), tested(b, "cd")])
    with pytest.raises(IncompleteError, match="none: tested an agent, and its results do not name it"):
        merge.merge(plan_of(a, b), [tested(a, "ab"), tested(b, "")])
    suite = a_cell("7.3", hooks=())
    for parts in ([tested(a, "ab"), tested(b, "ab")], [tested(suite, ""), tested(a, "ab")]):
        merged = merge.merge(plan_of(a, b), parts)
        assert merged.run.agent == Agent(bundle="ab")


def of_run(cell: CellResult, name: str, **run: Any) -> Shard:
    """A shard whose run has other values."""
    one = shard(cell, folder=name)
    results = one.results.model_copy(update={"run": one.results.run.model_copy(update=run)})
    return dataclasses.replace(one, results=results)


@pytest.mark.parametrize("other", ["cd", ""])
def test_shards_of_different_harnesses_do_not_merge(other: str) -> None:
    """They may judge differently; an older harness, which has no digest, is another one."""
    a, b = a_cell("6.1"), a_cell("7.3")
    parts = [of_run(a, "one", harness_digest="ab"), of_run(b, "two", harness_digest=other)]
    with pytest.raises(IncompleteError, match="different harnesses were run in one and two"):
        merge.merge(plan_of(a, b), parts)
    same = [parts[0], of_run(b, "two", harness_digest="ab")]
    assert merge.merge(plan_of(a, b), same).run.harness_digest == "ab"


def test_shards_of_different_packages_do_not_merge() -> None:
    """A shard without suites that install it fits any."""
    a, b, c = cells = (a_cell("6.1"), a_cell("7.3"), a_cell("5.10"))
    parts = [of_run(a, "one"), of_run(b, "two", package_digest="ab"), of_run(c, "three", package_digest="cd")]
    with pytest.raises(IncompleteError, match=r"different Debian packages of the agent .* in two and three"):
        merge.merge(plan_of(*cells), parts)
    assert merge.merge(plan_of(a, b), parts[:2]).run.package_digest == "ab"


def test_all_commits_of_one_agent_are_named() -> None:
    """The rest of the tree may differ where agent and harness do not."""
    cells = [a_cell("6.1"), a_cell("7.3"), a_cell("5.10")]
    parts = [
        _tested(cell, Agent(bundle="ab", commit=commit))
        for cell, commit in zip(cells, ("one", "two", "one"), strict=True)
    ]
    agent = merge.merge(plan_of(*cells), parts).run.agent
    assert agent
    assert agent.commit == "one, two"


def test_a_shard_of_an_earlier_night_does_not_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that could not start leaves it in its folder; shards may begin one after the other."""
    days = {"one": "2026-11-22T02:17:44+00:00", "two": "2026-11-22T17:00:00+00:00"}
    days["old"] = "2026-11-15T02:17:44+00:00"
    kernels = dict(zip(days, ("6.1", "7.3", "5.10"), strict=True))
    for name, started in days.items():
        on_disk(tmp_path / name, a_run(a_cell(kernels[name]), started=started))
    one, two, old = (str(tmp_path / name) for name in days)
    assert cli.main(["merge", one, two, "--output", str(tmp_path / "m")]) == 0
    assert cli.main(["merge", one, old, two, "--output", str(tmp_path / "n")]) == 4
    printed = capsys.readouterr().err
    assert f"{old} began at {days['old']}, and {two} at {days['two']}: not shards of one run" in printed
    assert not (tmp_path / "n").exists()
    assert cli.main(["merge", one, old, two, "--within", "192h", "--output", str(tmp_path / "n")]) == 0


@pytest.mark.parametrize(
    ("one", "other", "merged"),
    [(True, False, False), (None, False, False), (True, None, None), (True, True, True)],
)
def test_an_agent_with_changes_in_any_shard_has_changes(
    one: bool | None, other: bool | None, merged: bool | None
) -> None:
    """In whatever order the shards are named."""
    a, b = a_cell("6.1"), a_cell("7.3")
    parts = [_tested(a, Agent(bundle="ab", clean=one)), _tested(b, Agent(bundle="ab", clean=other))]
    for shards in (parts, parts[::-1]):
        agent = merge.merge(plan_of(a, b), shards).run.agent
        assert agent
        assert agent.clean is merged
