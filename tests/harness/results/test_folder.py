"""A run replaces the folder of an earlier run, and no other files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import report
from harness.errors import ConfigError
from harness.plan.plan import Plan
from harness.results import folder, results_file
from tests.harness.report.made_up import a_cell, a_run


def made(path: Path, *, own: bool = False) -> None:
    os.close(folder.make(path, own=own))


@pytest.mark.parametrize(
    "files", [("cells/notes.txt", "summary.md"), ("README",), ("plan.json",), ("cells/a/b",)]
)
def test_a_folder_with_other_files_is_refused(tmp_path: Path, files: tuple[str, ...]) -> None:
    """As with `--output .`; all files stay."""
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"cells": "mine"}')
    with pytest.raises(ConfigError, match="not empty, and not the folder of a run"):
        made(tmp_path)
    assert all((tmp_path / name).read_text() == '{"cells": "mine"}' for name in files)


def test_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    """Files that a user added to its folder stay."""
    made(tmp_path / "out")
    for name, text in (
        ("plan.json", Plan(schema=1, cells=()).to_json()),
        ("summary.md", "old"),
        ("note", "mine"),
    ):
        (tmp_path / "out" / name).write_text(text)
    (tmp_path / "out/cells/6.1-auto").mkdir()
    made(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cells", "note"]
    assert list((tmp_path / "out/cells").iterdir()) == []


def test_an_empty_folder_and_one_of_a_run_that_ended_at_once_are_accepted(tmp_path: Path) -> None:
    """The second has only an empty folder of cells."""
    made(tmp_path)
    made(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cells"]


@pytest.mark.parametrize("target", ["precious", "nothing"])
def test_cells_that_are_a_link_are_refused(tmp_path: Path, target: str) -> None:
    """The target of the link is unchanged."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/keep").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run/plan.json").write_text(Plan(cells=()).to_json())
    (tmp_path / "run/cells").symlink_to(tmp_path / target)
    with pytest.raises(ConfigError, match="cells: is a link"):
        made(tmp_path / "run")
    assert (tmp_path / "precious/keep").exists()


def test_another_runs_folder_is_not_shared(tmp_path: Path) -> None:
    """As long as that run uses it."""
    claimed = folder.make(tmp_path, own=False)
    with pytest.raises(ConfigError, match="another run is writing there"):
        made(tmp_path)
    os.close(claimed)


def test_the_reports_of_a_run_are_removed_with_it(tmp_path: Path) -> None:
    """`REPORTS` names each file that the reports write, and no other."""
    results_file.write(a_run(a_cell("6.1")), tmp_path)
    report.write_all(a_run(a_cell("6.1")), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(folder.REPORTS)


def test_a_folder_called_latest_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ConfigError, match="latest: is not a symbolic link"):
        folder.make(tmp_path / "20261122-021744-3fa9", own=True)
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def test_latest_is_the_newest_run(tmp_path: Path) -> None:
    """Also if an earlier process with the same id died before it set the link."""
    (tmp_path / f".latest.{os.getpid()}").symlink_to("old")
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        folder.point_latest_at(tmp_path / name)
    assert (tmp_path / "latest").readlink() == Path("2")


@pytest.mark.parametrize("name", ["x" * 300, "loop", "dangling", "dangling/below", "run", "file/below"])
def test_a_folder_that_cannot_be_written_is_refused_early(tmp_path: Path, name: str) -> None:
    """The error names it, before anything is fetched."""
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cells").touch()
    with pytest.raises(ConfigError, match=r"cannot be written|not the folder of a run"):
        folder.check(tmp_path / name)


@pytest.mark.parametrize("place", ["out", "out/run"])
def test_a_folder_that_others_can_replace_is_refused(tmp_path: Path, place: str) -> None:
    """Below a sticky bit, as of /tmp, they cannot."""
    (tmp_path / "out").mkdir()
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place).chmod(0o777)
    for use in (folder.check, made):
        with pytest.raises(ConfigError, match="every user of this host can replace"):
            use(tmp_path / "out" / "run")
    (tmp_path / place).chmod(0o1777)
    folder.check(tmp_path / "out" / "run")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize(("place", "own"), [("out", True), ("out", False), ("out/run", False)])
def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, *, own: bool
) -> None:
    """The user who called sudo is no other user."""
    (tmp_path / place).mkdir(parents=True)
    os.chown(tmp_path / place, 1000, 1000)
    run = tmp_path / "out" / "run"
    with pytest.raises(ConfigError, match="belongs to uid 1000"):
        folder.check(run)
    monkeypatch.setenv("SUDO_UID", "1000")
    folder.check(run)
    monkeypatch.delenv("SUDO_UID")
    with pytest.raises(ConfigError, match="belongs to uid 1000"):
        made(run, own=own)


def test_a_run_is_not_resumed_where_others_can_replace_it(tmp_path: Path) -> None:
    made(tmp_path / "run")
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="every user of this host can replace"):
        folder.reopen(tmp_path / "run")
