"""Files and folders are trusted only where no other user can have written them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.host import cache, private
from harness.host.cache import Cache
from harness.plan import yaml


def test_a_private_folder_is_trusted(tmp_path: Path) -> None:
    """It is made with mode 0700, whatever the umask."""
    private.make(tmp_path / "r")
    assert private.refusal(tmp_path / "r") == ""


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_a_folder_that_others_can_enter_is_not_trusted(tmp_path: Path, mode: int) -> None:
    """The reason names the folder and its mode."""
    tmp_path.chmod(mode)
    assert private.refusal(tmp_path) == f"{tmp_path} is not private to this user (mode {mode:04o})"


def test_a_link_is_never_trusted(tmp_path: Path) -> None:
    """Not even a link to a private folder of the same user."""
    private.make(tmp_path / "r")
    (tmp_path / "link").symlink_to("r")
    assert private.refusal(tmp_path / "link") == f"{tmp_path}/link is not a directory"


def test_a_folder_below_one_that_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    """Unless that one is sticky, as /tmp is."""
    (tmp_path / "open").mkdir()
    private.make(tmp_path / "open" / "r")
    (tmp_path / "open").chmod(0o777)
    assert "can be written by other users" in private.refusal(tmp_path / "open" / "r")
    (tmp_path / "open").chmod(0o1777)
    assert private.refusal(tmp_path / "open" / "r") == ""


def test_only_a_regular_file_of_this_user_is_read(tmp_path: Path) -> None:
    """A link, a FIFO (which would block) and a file that others can write are refused."""
    private.write(tmp_path / "file", b"ours")
    assert private.read(tmp_path / "file") == b"ours"
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "open").touch()
    (tmp_path / "open").chmod(0o666)
    for name in ("link", "fifo", "open"):
        with pytest.raises(OSError, match=name):
            private.read(tmp_path / name)


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    """The target of the link is unchanged."""
    (tmp_path / "precious").write_text("keep")
    (tmp_path / "link").symlink_to("precious")
    with pytest.raises(OSError, match="link"):
        private.write(tmp_path / "link", b"x")
    assert (tmp_path / "precious").read_text() == "keep"


def test_a_matrix_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    """The hint has the command that removes the permission."""
    path = tmp_path / "matrix.yaml"
    path.write_text("kernels: [6.1]\n")
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="every user of this host can change it") as caught:
        yaml.read(path)
    assert caught.value.hint == f"run chmod o-w {path}"


def test_a_matrix_that_everyone_can_replace_is_refused(tmp_path: Path) -> None:
    """A folder of mode 0777 allows that whatever the file's mode; a sticky folder such as /tmp does not."""
    path = tmp_path / "matrix.yaml"
    path.write_text("kernels: [6.1]\n")
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="every user of this host can change it") as caught:
        yaml.read(path)
    assert caught.value.hint == f"run chmod o-w {tmp_path}"
    tmp_path.chmod(0o1777)
    assert yaml.read(path).data


def test_a_cache_that_everyone_can_write_is_refused(tmp_path: Path) -> None:
    """It is refused before anything in it is used."""
    tmp_path.chmod(0o777)
    with pytest.raises(ConfigError, match="can be changed by every user"):
        Cache(tmp_path).get("kind", "key", lambda folder: (folder / "x").touch())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
@pytest.mark.parametrize("which", ["matrix.yaml", "."])
def test_a_matrix_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    """So is one in another user's folder; with sudo, the user who called sudo counts as this user."""
    path = tmp_path / "matrix.yaml"
    path.write_text("kernels: [6.1]\n")
    os.chown(tmp_path / which, 1000, 1000)
    with pytest.raises(ConfigError, match="is owned by uid 1000, who could change") as caught:
        yaml.read(path)
    assert f"chown -h 0 {tmp_path / which}" in str(caught.value.hint)
    monkeypatch.setenv("SUDO_UID", "1000")
    assert yaml.read(path).data


def test_a_cache_that_everyone_can_replace_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "cache").mkdir()
    with pytest.raises(ConfigError, match="can be replaced by every user") as caught:
        cache.refuse_shared(tmp_path / "cache")
    assert caught.value.hint.endswith(f"chmod o-w {tmp_path}")
    tmp_path.chmod(0o1777)
    cache.refuse_shared(tmp_path / "cache")
    cache.refuse_shared(tmp_path / "absent")


def test_a_cache_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    with pytest.raises(ConfigError, match="is not a folder"):
        cache.refuse_shared(tmp_path / "cache")
    with pytest.raises(ConfigError, match="cannot be used: Not a directory"):
        cache.refuse_shared(tmp_path / "cache" / "below")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_cache_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with sudo: root would use the kernels and capabilities of the user who called sudo."""
    monkeypatch.setenv("SUDO_UID", "1000")
    os.chown(tmp_path, 1000, 1000)
    with pytest.raises(ConfigError, match="belongs to uid 1000"):
        Cache(tmp_path).get("kind", "key", lambda folder: (folder / "x").touch())
    assert list(tmp_path.iterdir()) == []
