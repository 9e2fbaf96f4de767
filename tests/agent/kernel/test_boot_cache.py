"""The cache of a boot: values of this boot only, and only files that no other user can have written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.kernel import boot_cache
from agent.kernel.btf import Function
from agent.kernel.functions import Functions


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to use instead of the one below /run."""
    monkeypatch.setattr(boot_cache, "DIRECTORY", tmp_path / "fim")
    return tmp_path / "fim"


def test_a_value_is_cached_by_name_and_stamp(directory: Path) -> None:
    """Another object may have other programs, so it has another stamp."""
    boot_cache.store("kinds.json", "one", {"lsm": ["fires", ""]})
    assert boot_cache.load("kinds.json", "one") == {"lsm": ["fires", ""]}
    assert boot_cache.load("kinds.json", "two") is None
    assert boot_cache.load("others.json", "one") is None
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "kinds.json").stat().st_mode & 0o777 == 0o600


def test_a_boot_invalidates_the_cache(directory: Path) -> None:
    """The next boot may be of another kernel."""
    boot_cache.store("kinds.json", "one", 1)
    place = directory / "kinds.json"
    place.write_text(json.dumps(json.loads(place.read_text()) | {"boot": "an earlier one"}))
    assert boot_cache.load("kinds.json", "one") is None


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_directory_that_others_can_write_to_is_not_trusted(directory: Path, mode: int) -> None:
    """The cache neither reads nor writes there."""
    boot_cache.store("kinds.json", "one", 1)
    directory.chmod(mode)
    assert boot_cache.load("kinds.json", "one") is None
    boot_cache.store("more.json", "one", 1)
    assert not (directory / "more.json").exists()


def test_a_file_that_others_can_write_is_not_trusted(directory: Path) -> None:
    """Also if the agent itself wrote it."""
    boot_cache.store("kinds.json", "one", 1)
    (directory / "kinds.json").chmod(0o666)
    assert boot_cache.load("kinds.json", "one") is None


def test_a_link_is_not_followed(directory: Path, tmp_path: Path) -> None:
    """For the file and for the directory."""
    boot_cache.store("kinds.json", "one", 1)
    (directory / "kinds.json").rename(tmp_path / "elsewhere")
    (directory / "kinds.json").symlink_to(tmp_path / "elsewhere")
    assert boot_cache.load("kinds.json", "one") is None
    directory.rename(tmp_path / "moved")
    directory.symlink_to(tmp_path / "moved")
    boot_cache.store("more.json", "one", 1)
    assert not (tmp_path / "moved" / "more.json").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"boot": 1}', "\x00"])
def test_a_damaged_file_has_no_value(directory: Path, content: str) -> None:
    """A damaged file is no error."""
    boot_cache.store("kinds.json", "one", 1)
    (directory / "kinds.json").write_text(content)
    assert boot_cache.load("kinds.json", "one") is None


def test_the_stamp_changes_with_the_content(tmp_path: Path) -> None:
    """It does not change with the time."""
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"one")
    assert boot_cache.checksum(tmp_path / "a") == boot_cache.checksum(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"two")
    assert boot_cache.checksum(tmp_path / "a") != boot_cache.checksum(tmp_path / "b")


@pytest.mark.usefixtures("directory")
def test_functions_are_looked_up_once_a_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache has the type number and parameters of present functions, and the names of absent ones."""

    class Kernel:
        def close(self) -> None:
            """Do nothing."""

    table = {"vfs_truncate": Function(7, ("path", "length"))}
    monkeypatch.setattr("agent.kernel.functions.Btf.parse", lambda _path: Kernel())
    monkeypatch.setattr("agent.kernel.functions.types.function", lambda _btf, name: table.get(name))
    first = Functions(typed=True)
    assert first.present("fentry", "vfs_truncate")
    assert not first.present("fentry", "do_nothing")
    first.close()
    monkeypatch.setattr("agent.kernel.functions.types.function", None)
    second = Functions(typed=True)
    assert second.parameters("vfs_truncate") == ("path", "length")
    assert second.number("fentry", "vfs_truncate") == 7
    assert not second.present("fentry", "do_nothing")
