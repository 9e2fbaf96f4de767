"""The search for the first bad kernel: lists, git trees, what cannot be judged, and resuming."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.commands import bisect as command
from harness.errors import ConfigError, IncompleteError
from harness.results.verdict import Verdict
from harness.run.bisect import Commits, Conclusion, Judged, Judgement, Listed, Order, judge
from tests.harness.report.made_up import a_cell, a_run, a_test

GOOD, BAD, SKIP = (Judged(one, "because") for one in Judgement)
EIGHT = [f"6.{number}" for number in range(1, 9)]


def search(order: Order, kernels: Mapping[str, Judged]) -> tuple[Conclusion, list[str]]:
    """Search to the end; return the result and the kernels that were judged."""
    asked = []
    while name := order.next():
        assert name not in asked
        asked.append(name)
        order.record(name, kernels[name])
    return order.conclusion(), asked


def planted(first: int, *skipped: int) -> dict[str, Judged]:
    """Eight kernels of which all from `first` are bad, but for those that cannot be judged."""
    return {name: SKIP if at in skipped else BAD if at >= first else GOOD for at, name in enumerate(EIGHT)}


def test_a_planted_bad_kernel_among_eight() -> None:
    """Both ends, then three steps."""
    found, asked = search(Listed(EIGHT), planted(5))
    assert found == Conclusion("6.6", "6.6 is the first bad kernel; 6.5 is good")
    assert asked == ["6.8", "6.1", "6.4", "6.6", "6.5"]


@given(st.integers(1, 7), st.sets(st.integers(0, 7)))
def test_the_first_bad_kernel_is_found_or_among_those_that_are_named(first: int, skipped: set[int]) -> None:
    """Whatever cannot be judged."""
    found, _ = search(Listed(EIGHT), planted(first, *skipped))
    if found.found:
        assert found.found == EIGHT[first]
    elif "one of" in found.reason:
        assert EIGHT[first] in found.reason.partition("one of ")[2].split(", ")
    else:
        assert skipped


@pytest.mark.parametrize(
    ("first", "skipped", "reason"),
    [
        (8, (), "no kernel is bad: 6.8, the newest, is good"),
        (0, (), "no kernel is good: 6.1, the oldest, is bad"),
        (5, tuple(range(8)), "no kernel can be judged: because"),
        (5, (4,), "only skipped kernels are left; the first bad one is one of 6.5, 6.6"),
    ],
)
def test_why_a_search_stops(first: int, skipped: tuple[int, ...], reason: str) -> None:
    assert search(Listed(EIGHT), planted(first, *skipped))[0] == Conclusion("", reason)


@pytest.mark.parametrize(
    ("verdicts", "judgement"),
    [
        ([Verdict.PASS, Verdict.SKIP], Judgement.GOOD),
        ([Verdict.PASS, Verdict.XFAIL], Judgement.GOOD),
        ([Verdict.SKIP, Verdict.SKIP], Judgement.SKIP),
        ([Verdict.PASS, Verdict.FAIL], Judgement.BAD),
        ([Verdict.PASS, Verdict.SPLAT], Judgement.BAD),
        ([Verdict.CRASH, Verdict.NOT_RUN], Judgement.BAD),
        ([Verdict.FAIL, Verdict.INFRA], Judgement.BAD),
        ([Verdict.PASS, Verdict.FLAKY], Judgement.SKIP),
        ([Verdict.PASS, Verdict.INFRA], Judgement.SKIP),
        ([Verdict.BOOT_FAIL, Verdict.BOOT_FAIL], Judgement.SKIP),
        ([Verdict.PASS, Verdict.NOT_RUN], Judgement.SKIP),
    ],
)
def test_what_results_say_about_a_kernel(verdicts: list[Verdict], judgement: Judgement) -> None:
    """A failure of the product decides; what says nothing about the kernel skips it, as for git."""
    tests = tuple(a_test(f"truth.{number}", verdict) for number, verdict in enumerate(verdicts))
    found = judge(a_run(a_cell("6.1", "auto", tests)))
    assert found.judgement is judgement
    assert found.reason


def git(tree: Path, *words: str) -> str:
    argv = ["git", "-C", str(tree), "-c", "user.name=n", "-c", "user.email=e@example.org", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with eight commits, the sixth of which is the first bad one."""
    folder = tmp_path / "linux"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for number in range(8):
        (folder / "state").write_text(f"{number} {'bad' if number >= 5 else 'good'}\n")
        git(folder, "add", "state")
        git(folder, "commit", "-qm", f"commit {number}")
    return folder


def test_the_first_bad_commit_of_a_tree(tree: Path) -> None:
    """What does not build is skipped; afterwards the tree is where it was."""
    order = Commits(tree, "HEAD~7", "HEAD")
    while name := order.next():
        state = (tree / "state").read_text()
        order.record(name, SKIP if state.startswith("3") else BAD if "bad" in state else GOOD)
        order = Commits(tree, "HEAD~7", "HEAD", resume=True) if not order._found.reason else order
    found = order.conclusion()
    assert found.found == git(tree, "rev-parse", "main~2")[:12]
    assert found.reason.endswith("is the first bad commit: commit 5")
    assert git(tree, "branch", "--show-current") == "main\n"


def test_a_tree_that_cannot_be_searched(tree: Path) -> None:
    """Changes would be lost, and a search of the user's own must not be continued."""
    with pytest.raises(ConfigError, match="not a git checkout"):
        Commits(tree.parent, "a", "b")
    with pytest.raises(ConfigError, match=r"git -C .* bisect start"):
        Commits(tree, "gone", "HEAD")
    git(tree, "bisect", "start", "HEAD", "HEAD~7")
    with pytest.raises(ConfigError, match="another bisection goes on"):
        Commits(tree, "HEAD~7", "HEAD")
    git(tree, "bisect", "reset")
    (tree / "state").write_text("edited")
    with pytest.raises(ConfigError, match="it has changes"):
        Commits(tree, "HEAD~7", "HEAD")


def arguments(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    matrix = folder / "matrix.yaml"
    matrix.write_text("kernels: [6.1]\nsuites: [{name: x, command: 'true'}]\n")
    fixed = ["--test", "command.x", "--matrix", str(matrix), "--output", str(folder / "out")]
    return parser.parse_args([*words, *fixed])


def judging(
    kernels: Mapping[str, Judged], asked: list[str], stop: int = 99
) -> Callable[[str, argparse.Namespace, Path], Judged]:
    def play(name: str, _arguments: argparse.Namespace, _folder: Path) -> Judged:
        if len(asked) == stop:
            raise KeyboardInterrupt
        asked.append(name)
        return kernels[name]

    return play


def test_the_same_command_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kernel is judged once; another question needs another folder."""
    asked: list[str] = []
    monkeypatch.setattr(command, "_judge", judging(planted(5), asked, stop=2))
    with pytest.raises(KeyboardInterrupt):
        command.execute(arguments(tmp_path, *EIGHT))
    monkeypatch.setattr(command, "_judge", judging(planted(5), asked))
    assert command.execute(arguments(tmp_path, *EIGHT)) == 0
    assert asked == ["6.8", "6.1", "6.4", "6.6", "6.5"]
    assert "6.6 is the first bad kernel; 6.5 is good" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="holds another bisection"):
        command.execute(arguments(tmp_path, *EIGHT[1:]))


def test_a_search_without_a_result_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_judge", judging(planted(8), []))
    with pytest.raises(IncompleteError, match=r"no kernel is bad: 6\.8"):
        command.execute(arguments(tmp_path, *EIGHT))


def test_a_folder_is_ordered_by_version(tmp_path: Path) -> None:
    """6.2 comes before 6.10; hidden files are no kernels."""
    for name in ("6.10-a", "6.2-b", "6.9", ".x"):
        (tmp_path / "images" / name).mkdir(parents=True)
    order = command._order(arguments(tmp_path, "--folder", str(tmp_path / "images")))
    assert isinstance(order, Listed)
    assert [Path(name).name for name in order.names] == ["6.2-b", "6.9", "6.10-a"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "name one of"),
        (["6.1"], "at least two different kernels"),
        (["6.1", "6.1"], "at least two different kernels"),
        (["6.1", "6.2", "--archive"], "not KERNEL ... and --archive"),
        (["--tree", "linux"], "--tree needs --good"),
    ],
)
def test_a_question_that_is_none(tmp_path: Path, words: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        command._order(arguments(tmp_path, *words))


def test_a_kernel_whose_run_ends_without_results(tmp_path: Path) -> None:
    """Is skipped with the cause that the run printed; the run is a real one, of a file that is no kernel."""
    (tmp_path / "image").write_text("no kernel")
    wanted = arguments(tmp_path, "--accelerator", "tcg")
    judged = command._judge(str(tmp_path / "image"), wanted, tmp_path / "run")
    assert judged.judgement is Judgement.SKIP
    assert judged.reason.startswith("no results, exit code 2: ")
    assert judged.reason.endswith("image: not a kernel image")


@pytest.mark.parametrize("words", [("--test", "nope.nope"), ("--hookset", "nope"), ("--tag", "nope")])
def test_a_selector_that_matches_nothing_is_no_property_of_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(command, "_judge", judging(planted(5), asked))
    with pytest.raises(ConfigError, match="nope"):
        command.execute(arguments(tmp_path, *EIGHT, *words))
    assert not asked


def test_a_name_that_no_kernel_has_ends_the_search(tmp_path: Path) -> None:
    """The other kernels are not the list that was meant; the run is a real one."""
    wanted = arguments(tmp_path, "--accelerator", "tcg")
    Path(wanted.matrix).write_text(
        "kernels: [{name: own, image: nope}]\nsuites: [{name: x, command: 'true'}]\n"
    )
    with pytest.raises(ConfigError, match="nope: no such file"):
        command._judge("own", wanted, tmp_path / "run")
