"""What the last runs found: red since when, flaky, durations and verified instructions with their noise."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from harness import cli, report
from harness.plan.cost import machine_seconds
from harness.plan.plan import Plan, whole_night
from harness.report import history, history_text
from harness.report.history import History
from harness.results.model import Hook, Phases, Results
from harness.results.verdict import Verdict
from tests.harness.conftest import matrix_of
from tests.harness.report.made_up import a_cell, a_run, a_test

V = Verdict


CELL = {"verdict": "PASS", "own_s": 1, "load_s": 1, "insns": 1, "tests": {}}


def night(day: int, verdict: Verdict = V.PASS, seconds: float = 2.0, name: str = "truth.open") -> Results:
    """A run of one cell with one test."""
    test = a_test(name, verdict, duration_s=seconds)
    found = a_run(a_cell("6.1", tests=(test,)))
    update = {"id": f"202611{day:02}", "started": f"2026-11-{day:02}T02:17:00+00:00"}
    return found.model_copy(update={"run": found.run.model_copy(update=update)})


def of(*verdicts: Verdict, seconds: float = 2.0) -> History:
    runs = (night(day, verdict, seconds) for day, verdict in enumerate(verdicts, 1))
    return History(runs=tuple(history.of_run(run) for run in runs))


@pytest.mark.parametrize(
    ("verdicts", "since", "flakes"),
    [
        ((V.PASS, V.PASS), "", 0),
        ((V.PASS, V.FAIL, V.FAIL), "2026-11-02", 0),
        ((V.FAIL, V.NOT_RUN, V.CRASH), "2026-11-01", 0),  # a run without an answer proves nothing
        ((V.PASS, V.FAIL, V.INFRA), "2026-11-02", 0),
        ((V.FAIL, V.PASS), "", 0),  # mended
        ((V.PASS, V.FAIL, V.PASS), "", 1),
        ((V.PASS, V.FLAKY, V.PASS, V.FAIL), "2026-11-04", 1),
        ((V.SKIP, V.FAIL, V.XFAIL, V.FLAKY), "2026-11-04", 2),
    ],
)
def test_a_test_is_red_since_a_run_or_flaky(verdicts: tuple[Verdict, ...], since: str, flakes: int) -> None:
    series = of(*verdicts).series("6.1-auto", "truth.open")
    assert series.red_since[:10] == since
    assert series.flakes == flakes


def test_a_test_that_a_run_did_not_plan_has_a_gap() -> None:
    runs = [night(1), night(2, name="truth.exec"), night(3, V.FAIL)]
    known = History(runs=tuple(map(history.of_run, runs)))
    assert known.series("6.1-auto", "truth.open").letters == "+.F"
    assert known.series("6.1-auto", "truth.unlink").letters == "..."
    assert known.pairs() == [("6.1-auto", "truth.open"), ("6.1-auto", "truth.exec")]


@pytest.mark.parametrize("started", ["2999-01-01T00:00:00+00:00", "zzzz", "9999-12-31"])
def test_a_wrong_clock_hides_no_run(started: str) -> None:
    """Many runs that claim to be newer than any other do not push out the last one, nor come after it."""
    entry = history.of_run(night(1))
    wrong = (entry.model_copy(update={"id": f"x{n}", "started": started}) for n in range(2 * history.RUNS))
    known = history.joined(History(runs=tuple(wrong)), night(2, V.FAIL))
    assert len(known.runs) == history.RUNS
    assert known.runs[-1].id == "20261102"
    assert known.series("6.1-auto", "truth.open").red_since.startswith("2026-11-02")


@pytest.mark.parametrize(
    "words",
    [
        ["history", "r.json", "--output"],
        ["history", "r.json", "--times"],
        ["compare", "r.json", "r.json", "--output"],
    ],
)
def test_an_output_that_cannot_be_written_is_named(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.json").write_text(night(1).to_json())
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1"]\n')
    (tmp_path / "file").write_text("")
    assert cli.main([*words, "file/x"]) == 2
    problem = capsys.readouterr().err
    assert "cannot be written: " in problem
    assert "Not a directory" in problem or "file is not a folder" in problem


def test_noise_is_a_robust_deviation() -> None:
    """One outlier changes neither the middle nor the spread by much."""
    found = history.noise([10.0, 11.0, 9.0, 10.0, 500.0])
    assert found.middle == 10.0
    assert found.spread == pytest.approx(1.4826)
    assert found.last == 500.0
    assert history.noise([]) == (0.0, 0.0, 0.0)


def test_durations_are_those_of_runs_that_passed() -> None:
    runs = (night(1, V.PASS, 2.0), night(2, V.TIMEOUT, 240.0), night(3, V.PASS, 4.0))
    known = History(runs=tuple(map(history.of_run, runs)))
    assert known.series("6.1-auto", "truth.open").seconds.middle == 3.0


def test_runs_are_joined_in_their_order_and_each_once(tmp_path: Path) -> None:
    """From folders, results, and an earlier history; the oldest go when there are too many."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "results.json").write_text(night(3).to_json())
    (tmp_path / "b.json").write_text(night(2, V.FAIL).to_json())
    (tmp_path / "old").mkdir()
    old = of(*[V.PASS] * history.RUNS)
    (tmp_path / "old" / "history.json").write_text(old.model_dump_json())
    known = history.read([tmp_path / "a", tmp_path / "b.json"])
    assert [run.id for run in known.runs] == ["20261102", "20261103"]
    assert len(history.read([tmp_path / "old", tmp_path / "a"]).runs) == history.RUNS


def part(number: int, kernel: str, *parts: str) -> Results:
    """A shard of one night, or a merge of the runs `parts`."""
    run = a_run(a_cell(kernel, tests=(a_test("truth.open", V.FAIL),)))
    update = {"id": f"part{number}", "started": f"2026-11-01T02:0{number}:00+00:00", "parts": parts}
    return run.model_copy(update={"run": run.run.model_copy(update=update)})


def test_a_run_that_is_part_of_another_is_not_counted_again(tmp_path: Path) -> None:
    """Shards beside their merge, and the merge of some beside that of all, in any order."""
    runs = (
        part(1, "6.1"),
        part(2, "6.12"),
        part(4, "6.1", "part1", "part2"),
        part(5, "6.1", "part1", "part2", "part3"),
    )
    for run in runs:
        (tmp_path / f"{run.run.id}.json").write_text(run.to_json())
    for names in itertools.permutations(run.run.id for run in runs):
        paths = [tmp_path / f"{name}.json" for name in names]
        assert [run.id for run in history.read(paths).runs] == ["part5"]
        rest = [path for path in paths if path.stem != "part5"]
        assert [run.id for run in history.read(rest).runs] == ["part4"]
    shards = [tmp_path / f"part{number}.json" for number in (2, 1)]
    assert [run.id for run in history.read(shards).runs] == ["part1", "part2"]


def test_two_merges_with_one_shard_in_common_both_count() -> None:
    """Each has results that the other lacks."""
    both = map(history.of_run, (part(4, "6.1", "part1", "part2"), part(5, "6.1", "part1", "part3")))
    assert len(history.joined(History(runs=tuple(both)), part(1, "6.1")).runs) == 2


def test_the_history_of_a_merge_knows_its_shards(tmp_path: Path) -> None:
    """history.json of a night that is given with the folders of its shards, by the next night."""
    (tmp_path / "history.json").write_text(
        history.joined(History(), part(5, "6.1", "part1", "part2")).model_dump_json()
    )
    (tmp_path / "1.json").write_text(part(1, "6.1").to_json())
    known = history.read([tmp_path / "history.json", tmp_path / "1.json"])
    assert [run.id for run in known.runs] == ["part5"]


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for day, verdict in enumerate((V.PASS, V.FAIL), 1):
        (tmp_path / f"{day}.json").write_text(night(day, verdict).to_json())
    argv = ["history", str(tmp_path / "1.json"), str(tmp_path / "2.json"), "--output", str(tmp_path / "out")]
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert "### History: 2 runs, 2026-11-01 to 2026-11-02, the newest last" in printed
    assert "| 6.1-auto | truth.open | `+F` | 2026-11-02 02:17 |  | 2.0 ± 0.0 s, last 2.0 s |" in printed
    assert history.read([tmp_path / "out"]).runs[1].started.startswith("2026-11-02")
    assert cli.main(["history", str(tmp_path / "none.json")]) == 2


def test_tests_that_never_failed_are_listed_on_request(tmp_path: Path) -> None:
    known = of(V.PASS, V.PASS)
    assert "truth.open" not in history_text.render(known)
    assert "| 6.1-auto | truth.open | `++` |" in history_text.render(known, every=True)
    assert history_text.render(History()) == "No run is known.\n"


def test_known_times_are_what_shards_are_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The middle of the runs, for the cells of the night."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text("kernels: ['6.1']\n")
    (tmp_path / "results.json").write_text(night(1, V.PASS, 31.0).to_json())
    assert cli.main(["history", "results.json", "--times", "matrix.times"]) == 0
    known = json.loads((tmp_path / "matrix.times").read_text())
    assert known["6.1-auto::truth.open"] == 31.0
    (cell,) = whole_night(matrix_of("6.1")).cells
    only = cell.model_copy(update={"tests": ("truth.open",)})
    assert machine_seconds([only], known) == known["6.1-auto"] + 31.0


def test_the_reports_show_the_last_runs(tmp_path: Path) -> None:
    """If history.json lies beside the results."""
    known = of(V.PASS, V.FAIL, V.FAIL)
    (tmp_path / "history.json").write_text(known.model_dump_json())
    report.write_all(night(3, V.FAIL), tmp_path)
    for name in ("summary.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert "last runs +FF" in text.replace("\\", "")
        assert "red since 2026-11-02 02:17" in text.replace("\\", "")


def test_a_merge_adds_its_run_to_the_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the merged reports show it."""
    monkeypatch.chdir(tmp_path)
    for name, run in (("shard", night(3, V.FAIL)), ("last", night(2, V.FAIL))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(run.to_json())
    (cell,) = whole_night(matrix_of("6.1")).cells
    only = cell.model_copy(update={"tests": ("truth.open",)})
    (tmp_path / "shard" / "plan.json").write_text(Plan(schema=1, cells=(only,)).to_json())
    (tmp_path / "last" / "history.json").write_text(of(V.PASS).model_dump_json())
    assert cli.main(["merge", "shard", "--output", "merged", "--history", "last"]) == 1
    known = history.read([tmp_path / "merged" / "history.json"])
    assert [run.started[8:10] for run in known.runs] == ["01", "02", "03"]
    assert "red since 2026-11-02" in (tmp_path / "merged" / "summary.md").read_text().replace("\\", "")


def test_absurd_durations_of_another_host_are_kept(tmp_path: Path) -> None:
    """Whatever results may have, a history may have."""
    run = night(1, V.PASS, 9e9)
    assert history.of_run(run).cells["6.1-auto"].tests["truth.open"] == (V.PASS, 9e9)


def test_a_damaged_history_does_not_cost_the_reports(tmp_path: Path) -> None:
    (tmp_path / "history.json").write_text("{")
    report.write_all(night(3, V.FAIL), tmp_path)
    assert "last runs" not in (tmp_path / "summary.md").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"started": "2026\x1b[2J"},
        {"id": "x\nPASS"},
        {"accelerator": "\u202e"},
        {"cells": {"c": {**CELL, "own_s": 1e308}}},
        {"cells": {"c": {**CELL, "insns": 1 << 90}}},
        {"cells": {"c\x1b[2J": CELL}},
        {"cells": {"c": {**CELL, "tests": {"t": ["FAIL", -1]}}}},
    ],
)
def test_a_hostile_history_is_refused(
    tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a file from another host: nothing of it reaches the terminal but printable words."""
    run = {"id": "a", "started": "2026", "accelerator": "tcg", "cells": {}, **change}
    path = tmp_path / "history.json"
    path.write_text(json.dumps({"history": 1, "runs": [run]}))
    assert cli.main(["history", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"harness: {path}: not a history: runs.0.")
    assert err.count("\n") == 1
    assert err.isascii()
    assert "\x1b" not in err


def test_the_sums_of_absurd_results_are_kept() -> None:
    """A cell has several phases and many hooks."""
    run = night(1, V.PASS)
    (cell,) = run.cells
    most = Phases(fetch_s=9e9, image_s=9e9, boot_s=9e9, load_s=9e9)
    hooks = tuple(Hook(event=f"e{number}", state="attached", insns=(1 << 63) - 1) for number in range(9))
    entry = history.of_run(
        run.model_copy(update={"cells": (cell.model_copy(update={"phases": most, "hooks": hooks}),)})
    ).cells["6.1-auto"]
    assert (entry.own_s > 1e10, entry.insns > 1 << 64) == (True, True)


@pytest.mark.parametrize("option", ["--output", "--times"])
@pytest.mark.parametrize("where", ["matrix.yaml/x", "matrix.yaml/x/y", "/dev/null/x"])
def test_what_cannot_be_written_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    where: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With exit code 2, and not by the name of a temporary file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "matrix.yaml").write_text('kernels: ["6.1"]\n')
    (tmp_path / "1.json").write_text(night(1, V.PASS).to_json())
    assert cli.main(["history", "1.json", option, where]) == 2
    assert capsys.readouterr().err.startswith(f"harness: {where}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.json", "matrix.yaml"]
