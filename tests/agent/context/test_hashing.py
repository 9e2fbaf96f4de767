"""A hash is that of the event's own file, or there is none."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from agent.context import hashing
from agent.context.hashing import Hasher
from agent.events.model import Event, EventType, File


def closed(path: Path, kind: EventType = EventType.CLOSE, mount_ns: int = 0) -> Event:
    file = File(os.fsencode(path), path.lstat().st_ino)
    return Event(kind, pid=os.getpid(), mount_ns=mount_ns, file=file)


def renamed(path: Path, retval: int = 0, replaced: int = 0) -> Event:
    """A rename to `path`. The second inode is that of the replaced file, 0 if there was none."""
    file = File(b"/gone", path.lstat().st_ino)
    return Event(EventType.RENAME, retval=retval, file=file, file2=File(os.fsencode(path), replaced))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


CONTENT = hashlib.sha256(b"content").hexdigest()


def test_a_closed_file_is_hashed(path: Path) -> None:
    hasher = Hasher()
    assert hasher.digest(closed(path)) == CONTENT
    assert (hasher.counters.hashed, hasher.counters.bytes) == (1, 7)


@pytest.mark.parametrize("over", [False, True])
def test_a_renamed_file_is_hashed_at_its_new_path(path: Path, *, over: bool) -> None:
    """Also if it replaced another file, whose inode the event has as the second."""
    target = path.with_name("target")
    if over:
        target.write_bytes(b"old content")
    replaced = target.lstat().st_ino if over else 0
    path.rename(target)
    assert Hasher().digest(renamed(target, replaced=replaced)) == CONTENT


def test_a_file_in_the_place_of_a_renamed_one_is_not_hashed(path: Path) -> None:
    """The digest is that of the renamed file, or there is none."""
    event = renamed(path)
    other = path.with_name("other")
    other.write_bytes(b"other")
    other.rename(path)
    assert Hasher().digest(event) == ""


def test_another_namespace_is_reached_through_its_process(path: Path) -> None:
    assert Hasher().digest(closed(path, mount_ns=1)) == CONTENT


@pytest.mark.parametrize("kind", [EventType.OPEN, EventType.UNLINK, EventType.CHMOD])
def test_only_changes_are_hashed(path: Path, kind: EventType) -> None:
    assert Hasher().digest(closed(path, kind)) == ""


def test_a_refused_rename_is_not_hashed(path: Path) -> None:
    """An event of a file that did not change has no digest."""
    assert Hasher().digest(renamed(path, retval=-errno.EACCES)) == ""


def test_another_file_at_the_path_is_not_hashed(path: Path) -> None:
    event = closed(path)
    other = path.with_name("other")
    other.write_bytes(b"other")
    other.rename(path)
    hasher = Hasher()
    assert hasher.digest(event) == ""
    assert hasher.counters.changed == 1


def test_links_pipes_and_folders_are_not_hashed(path: Path) -> None:
    link, pipe, folder = (path.with_name(name) for name in ("link", "pipe", "folder"))
    link.symlink_to(path)
    os.mkfifo(pipe)
    folder.mkdir()
    hasher = Hasher()
    assert [hasher.digest(closed(item)) for item in (link, pipe, folder)] == ["", "", ""]
    assert hasher.counters.changed == 3


def test_a_large_file_is_not_hashed(path: Path) -> None:
    hasher = Hasher(max_file_bytes=6)
    assert hasher.digest(closed(path)) == ""
    assert hasher.counters.too_large == 1
    assert Hasher(max_file_bytes=7).digest(closed(path)) == CONTENT


def test_a_file_that_grows_has_no_digest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_BLOCK", 3)
    read = os.read

    def grow(fd: int, size: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"more")
        return read(fd, size)

    monkeypatch.setattr(os, "read", grow)
    hasher = Hasher(max_file_bytes=20)
    assert hasher.digest(closed(path)) == ""
    assert hasher.counters.too_large == 1


def test_the_budget_is_a_rate(path: Path) -> None:
    now = [0.0]
    hasher = Hasher(max_file_bytes=10, bytes_per_second=10, clock=lambda: now[0])
    assert [bool(hasher.digest(closed(path))) for _ in range(2)] == [True, False]
    now[0] = 0.5
    assert hasher.digest(closed(path)) == CONTENT
    assert hasher.counters.over_budget == 1
