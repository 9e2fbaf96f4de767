"""The worlds in which scenarios can run: made below a folder, and removed again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import get_args

import pytest

from agent.errors import UsageError
from agent.selftest import worlds
from agent.selftest.evidence import CannotTellError
from agent.selftest.workload import Workload
from harness.plan.matrix import World


def test_a_matrix_can_name_each_world() -> None:
    assert set(get_args(World)) == {"", *worlds.WORLDS}


def test_no_world_is_the_folder_itself(tmp_path: Path) -> None:
    with worlds.entered("", tmp_path) as world:
        assert (world.where, world.prefix, world.ended()) == (tmp_path, (), "")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown world 'zfs'") as caught, worlds.entered("zfs", tmp_path):
        pass
    assert "btrfs" in caught.value.hint


@pytest.mark.parametrize("name", ["overlay", "vfat", "neighbour", "user_namespace"])
def test_nothing_is_left_of_a_world(name: str, tmp_path: Path) -> None:
    """Neither mounts nor processes nor folders."""
    mounts = Path("/proc/mounts").read_text()
    try:
        with worlds.entered(name, tmp_path) as world:
            (world.where / "folder").mkdir()
            (world.where / "folder").rmdir()
            assert Path("/proc/mounts").read_text() == mounts or name in ("overlay", "vfat")
    except UsageError as error:
        pytest.skip(f"this host cannot make it: {error}")
    assert Path("/proc/mounts").read_text() == mounts
    assert list(tmp_path.iterdir()) == []


def test_a_neighbour_that_does_not_start_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the scenarios would pass as if they were not in this world."""
    monkeypatch.setattr(worlds, "_HOSTILE", "exit 3")
    with (
        pytest.raises(UsageError, match="world neighbour: the neighbour ended with status"),
        worlds.entered("neighbour", tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_neighbour_that_ends_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        with worlds.entered("neighbour", tmp_path) as world:
            assert world.ended() == ""
    except UsageError as error:
        pytest.skip(f"this host cannot make it: {error}")
    monkeypatch.setattr(worlds, "_HOSTILE", "echo; exit 3")
    with worlds.entered("neighbour", tmp_path) as world:
        deadline = time.monotonic() + 10
        while not world.ended() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert world.ended() == "the neighbour ended with status 3"


def test_a_world_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its reason, and nothing of it stays."""

    def fail(*_: object) -> worlds.World:
        raise CannotTellError("cannot make a xfs here: mkfs.xfs is not installed")

    monkeypatch.setitem(worlds.WORLDS, "xfs", fail)
    with pytest.raises(UsageError, match=r"world xfs: .* not installed"), worlds.entered("xfs", tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_generator_can_start_in_a_user_namespace(generator: Path, tmp_path: Path) -> None:
    with worlds.entered("user_namespace", tmp_path) as world:
        try:
            workload = Workload(generator, 10.0, world.prefix)
        except UsageError as error:
            pytest.skip(f"this host cannot make it: {error}")
        inside = Path(f"/proc/{workload.pid}/ns/user").readlink()
        workload.close()
    assert inside != Path("/proc/self/ns/user").readlink()
