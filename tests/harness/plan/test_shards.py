"""Parts of a plan: no machine is split, all parts take as long, and merged they are the whole plan."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import harness.lab.lab
from harness import cli
from harness.commands import run as run_command
from harness.errors import ConfigError, IncompleteError
from harness.plan import checked as config
from harness.plan import cost
from harness.plan import shards as split
from harness.plan.matrix import Matrix
from harness.plan.plan import Plan, Selectors, make
from harness.results import results_file
from harness.results.model import CellResult, Results
from harness.run.fake import FakeBench
from harness.run.run import Options
from tests.harness.conftest import matrix_of

OTHER = "expected_failures: [{test: truth.open, reason: r, link: l, until: 2099-01-01}]\n"
EXPECTED = OTHER.replace("reason", "when: {kernel: '6.1'}, reason")
SCRIPT = {"6.1-lsm::truth.open": "fail", "6.12-*::approvers.path": "skip", "7.3-lsm::truth.unlink": "crash"}


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(harness.lab.lab, "VmBench", lambda *_, **__: FakeBench(SCRIPT))
    path = tmp_path / "matrix.yaml"
    path.write_text("kernels: [5.10, 6.1, 6.12, 7.3]\nhooksets: [lsm, kprobe]\n")
    path.with_name("expectations.yaml").write_text(EXPECTED)
    return path


def _run(matrix: Path, name: str, shard: str = "", tests: tuple[str, ...] = ()) -> Path:
    selectors = Selectors(test=tests)
    options = Options(matrix=matrix, output=matrix.parent / name, shard=shard, selectors=selectors)
    run_command.run(options, FakeBench(SCRIPT), Console(file=io.StringIO()), "0")
    return matrix.parent / name / "latest"


def _found(cells: tuple[CellResult, ...]) -> list[object]:
    """Return the results of a run without the times, which differ between runs."""
    return [
        (
            cell.id,
            cell.verdict,
            cell.reason,
            cell.kernel,
            cell.hooks,
            cell.capabilities,
            tuple((test.name, test.verdict, test.reason, test.assertions) for test in cell.tests),
        )
        for cell in cells
    ]


def _as_found(run: Results) -> tuple[object, ...]:
    notes = [note for note in run.run.notes if "shards" not in note]
    return _found(run.cells), run.totals, run.run.exit_code, run.run.complete, notes


def test_the_guess_for_a_machine_counts_the_start_of_each_cell(matrix: Path) -> None:
    """Without times of earlier runs: a cell with few tests spends most of its time on load and end."""
    cells = make(config.load(matrix), Selectors(test=("truth.open",))).cells[:2]
    one, two = (cost.machine_seconds(cells[:number], {}) for number in (1, 2))
    assert two - one >= cost.CELL_GUESS_S
    compiled = cells[0].model_copy(update={"hookset": "bcc"})
    assert cost.machine_seconds([compiled], {}) == one + cost.COMPILE_GUESS_S
    known = {cells[0].id: 3.0}
    assert cost.machine_seconds(cells, known) == 3.0 + cost.BRIEF_S + (two - one)
    assert sum(cost.cell_seconds(cell, cells, known) for cell in cells) == cost.machine_seconds(cells, known)


def test_all_shards_merged_are_the_unsharded_run(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = results_file.load(_run(matrix, "whole") / "results.json")
    assert cli.main(["plan", "--json"]) == 0
    (matrix.parent / "plan.json").write_text(capsys.readouterr().out)
    assert cli.main(["plan", "--shards", "3", "--json"]) == 0
    shards = [row["shard"] for row in json.loads(capsys.readouterr().out)["shards"]]
    folders = [str(_run(matrix, f"shard-{number}", shard)) for number, shard in enumerate(shards)]
    assert len(folders) == 3
    assert cli.main(["merge", *folders, "--plan", "plan.json", "--output", "merged"]) == whole.run.exit_code
    merged = results_file.load(matrix.parent / "merged/results.json")
    assert _as_found(merged) == _as_found(whole)
    assert list(merged.run.shards) == ["1/3", "2/3", "3/3"]
    assert min(merged.run.shards.values()) > 0


SUITE = "suites: [{name: tool, command: ./run.sh, files: [run.sh, data]}]\n"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / "run.sh").write_text("exit 0\n"), "suite tool"),
        (lambda folder: (folder / "run.sh").chmod(0o600), "suite tool"),
        (lambda folder: (folder / "data/b").rename(folder / "data/c"), "suite tool"),
        (lambda folder: (folder / "expectations.yaml").write_text(OTHER), "expectations.yaml"),
        (lambda folder: (folder / "expectations.yaml").unlink(), "expectations.yaml"),
        (lambda folder: (folder / "run.sh").chmod(0o755), ""),  # a host may have another umask
        (lambda folder: (folder / "beside").touch(), ""),
        (lambda folder: (folder / "expectations.yaml").write_text(f"# a remark\n{EXPECTED}"), ""),
    ],
)
def test_shards_that_were_judged_by_other_files_do_not_merge(
    matrix: Path, change: Callable[[Path], object], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The files of a suite, and the failures that one host alone expects, are of the whole run."""
    folder = matrix.parent
    matrix.write_text(matrix.read_text() + SUITE)
    (folder / "data").mkdir()
    for name in ("run.sh", "data/a", "data/b"):
        (folder / name).write_text("exit 1\n")
    (folder / "run.sh").chmod(0o700)
    tests = ("truth.open", "command.tool")
    first = _run(matrix, "one", "1/2", tests)
    change(folder)
    second = _run(matrix, "two", "2/2", tests)
    code = cli.main(["merge", str(first), str(second), "--output", "merged"])
    if what:
        assert code == 4
        assert f"{what}: not the same in {first} and {second}" in capsys.readouterr().err
        assert not (folder / "merged").exists()
    else:
        parts = [results_file.load(part / "results.json").run.inputs for part in (first, second)]
        merged = results_file.load(folder / "merged/results.json")
        assert merged.run.inputs == parts[0] == parts[1]
        assert list(merged.run.inputs) == ["expectations.yaml", "suite tool"]
        assert code == merged.run.exit_code


def test_a_lost_shard_makes_the_merge_fail(matrix: Path) -> None:
    cli.main(["plan", "--json"])
    (matrix.parent / "plan.json").write_text(make(_of(matrix), Selectors()).to_json())
    only = str(_run(matrix, "one", "1/2"))
    assert cli.main(["merge", only, "--plan", "plan.json", "--output", "merged"]) == 4


@pytest.mark.parametrize(
    ("names", "problems"),
    [
        (["1/3", "2/3"], ["-lsm: in another shard, and in none of these"]),
        (["1/2", "2/3"], ["shards of different divisions: ", " is 1/2 and ", " is 2/3"]),
    ],
)
def test_shards_show_without_the_plan_what_is_missing(
    names: list[str], problems: list[str], matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A merge of the first shards, or of shards of two runs, is no green run."""
    folders = [str(_run(matrix, str(number), name)) for number, name in enumerate(names)]
    assert cli.main(["merge", *folders, "--output", "merged"]) == 4
    printed = capsys.readouterr().err
    assert [problem for problem in problems if problem not in printed] == []
    if (matrix.parent / "merged").exists():
        found = results_file.load(matrix.parent / "merged/results.json").run
        assert not found.complete
        assert not [note for note in found.notes if "of the whole run" in note]


def test_the_plan_of_a_shard_is_not_the_whole_one(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With it, a merge of this shard alone would be complete."""
    only = _run(matrix, "one", "1/2")
    assert cli.main(["merge", str(only), "--plan", str(only / "plan.json"), "--output", "merged"]) == 2
    assert "plan.json: the plan of shard 1/2 only" in capsys.readouterr().err
    assert not (matrix.parent / "merged").exists()


def test_all_shards_are_known_to_be_all(matrix: Path) -> None:
    """The last one may be any; a part without a number, such as the night of arm64, may be beside them."""
    whole = make(_of(matrix), Selectors())
    parts = {name: split.part(whole, name, {}) for name in ("1/3", "2/3", "3/3")}
    assert split.absent(parts) == []
    assert split.absent(parts | {"more": make(matrix_of("6.99"), Selectors())}) == []
    assert split.absent({"whole": whole}) == []


def test_a_cell_that_two_divisions_leave_to_each_other_is_missing(matrix: Path) -> None:
    """Two hosts with other times beside the matrix divide it differently, and a cell may be in neither."""
    whole = make(_of(matrix), Selectors())
    first, second = (split.part(whole, name, {}) for name in ("1/2", "2/2"))
    fewer = second.model_copy(update={"cells": second.cells[1:]})
    lost = second.cells[0].id
    assert split.absent({"a": first, "b": fewer}) == [f"{lost}: in another shard, and in none of these"]
    assert split.absent({"a": first, "b": fewer, "merged": whole}) == []


def test_shards_of_an_older_harness_are_missed_by_their_numbers(matrix: Path) -> None:
    """Their plans do not list the cells of the others."""
    whole = make(_of(matrix), Selectors())
    parts = {name: split.part(whole, name, {}) for name in ("1/3", "3/3")}
    older = {name: plan.model_copy(update={"omitted": ()}) for name, plan in parts.items()}
    assert split.absent(older) == ["shard 2/3: not among these folders"]


def test_a_shard_with_fewer_tests_is_not_that_shard(matrix: Path) -> None:
    """`harness run --shard 2/2 -- -k truth` runs a part of it."""
    whole = make(_of(matrix), Selectors())
    first, second = (split.part(whole, name, {}) for name in ("1/2", "2/2"))
    assert second.narrowed(second.pairs()) == second
    with pytest.raises(IncompleteError, match="b: not all tests of that shard were selected"):
        split.absent({"a": first, "b": second.narrowed(second.pairs()[1:])})


def test_that_all_shards_have_fewer_tests_is_noticed(matrix: Path) -> None:
    """The plan of a run of selected tests requires no hook set, before and after the user narrows it."""
    whole = make(_of(matrix), Selectors(test=("truth.*",)))
    parts = {name: split.part(whole, name, {}) for name in ("1/2", "2/2")}
    assert split.absent(parts) == []
    fewer = {name: plan.narrowed(plan.pairs()[1:]) for name, plan in parts.items()}
    with pytest.raises(IncompleteError, match="1/2: not all tests of that shard were selected"):
        split.absent(fewer)


def test_shards_of_different_selections_are_refused(matrix: Path) -> None:
    """Each lacks tests that no plan has; the order of options does not matter."""
    first, second, same = (
        make(_of(matrix), Selectors(test=tests))
        for tests in (("truth.*", "doors.at"), ("truth.*",), ("doors.at", "truth.*"))
    )
    part = split.part(first, "1/2", {})
    assert split.absent({"a": part, "b": split.part(same, "2/2", {})}) == []
    with pytest.raises(IncompleteError, match="shards of different selections: a and b"):
        split.absent({"a": part, "b": split.part(second, "2/2", {})})


def _of(matrix: Path) -> Matrix:
    return config.load(matrix)


@given(st.integers(1, 6), st.integers(1, 9), st.sampled_from([["auto"], ["lsm", "kprobe"]]))
def test_every_cell_is_in_one_part_and_no_machine_in_two(
    kernels: int, parts: int, hooksets: list[str]
) -> None:
    plan = make(matrix_of(*(f"6.{number}" for number in range(kernels)), hooksets=hooksets), Selectors())
    found = split.split(plan, parts, {})
    machines = [name for part in found for name in part.machines()]
    assert sorted(machines) == sorted(set(machines)) == sorted(plan.machines())
    assert sorted(cell.id for part in found for cell in part.cells) == sorted(cell.id for cell in plan.cells)
    sizes = [len(part.machines()) for part in found]
    assert max(sizes) - min(sizes) <= 1  # these machines cost the same
    assert found == split.split(plan, parts, {})


def test_known_times_make_the_parts_equal() -> None:
    """A machine that takes as long as three others is a part of its own."""
    plan = make(matrix_of("5.10", "6.1", "6.12", "7.3"), Selectors(test=("truth.open",)))
    known = {f"{name}-auto": 20.0 for name in ("6.1", "6.12", "7.3")} | {"5.10-auto": 1.0}
    known |= {"5.10-auto::truth.open": 59.0}
    parts = split.split(plan, 2, known)
    assert [[cell.id for cell in part.cells] for part in parts] == [
        ["5.10-auto"],
        ["6.1-auto", "6.12-auto", "7.3-auto"],
    ]


def test_plan_and_run_use_the_times_beside_the_matrix(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So every host with the same files has the same shards."""
    whole = make(_of(matrix), Selectors())
    first, cells = next(iter(whole.machines().items()))
    (matrix.parent / "matrix.times").write_text(json.dumps({cells[0].id: 1e5}))
    assert cli.main(["plan", "--shards", "2", "--json"]) == 0
    shards = json.loads(capsys.readouterr().out)["shards"]
    assert shards[0]["machines"] == [first]
    folder = _run(matrix, "first", "1/2")
    planned = Plan.model_validate_json((folder / "plan.json").read_text())
    assert list(planned.machines()) == [first]


@pytest.mark.parametrize("text", ["", "[]", '{"a": null}', '{"a": NaN}', '{"a": 1e400}', '{"a": -1}'])
def test_damaged_times_beside_the_matrix_are_refused(
    text: str, matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host that ignored them would have other shards than the others."""
    (matrix.parent / "matrix.times").write_text(text)
    for words in (["plan"], ["plan", "--shards", "2"], ["run", "--shard", "1/2"]):
        assert cli.main(words) == 2
        assert "matrix.times: not the seconds of cells and tests" in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", ""])
def test_an_invalid_shard_is_refused(shard: str) -> None:
    with pytest.raises(ConfigError, match="invalid shard"):
        split.part(make(matrix_of("6.1"), Selectors()), shard, {})


def test_a_shard_without_a_machine_is_an_error() -> None:
    with pytest.raises(ConfigError, match="the plan has 1 machine"):
        split.part(make(matrix_of("6.1"), Selectors()), "2/2", {})


def test_the_text_of_a_shard(matrix: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--shards", "2"]) == 0
    assert "2/2" in capsys.readouterr().out
