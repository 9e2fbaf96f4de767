"""JSON Lines: rotation, full disks and kills leave no incomplete line."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.sinks.jsonl import MODE, JsonlSink
from tests.agent.sinks.conftest import matches


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def sink(path: Path) -> Iterator[JsonlSink]:
    sink = JsonlSink(path)
    yield sink
    sink.close()


def test_each_match_is_a_line(sink: JsonlSink, path: Path) -> None:
    assert sink.write(matches(2)) == 2
    assert sink.write(matches(1, 2)) == 1
    assert path.read_bytes() == b'{"n":0}\n{"n":1}\n{"n":2}\n'
    assert path.stat().st_mode & 0o777 == MODE
    assert sink.counters.delivered == 3


def test_rotation_by_rename_is_followed(sink: JsonlSink, path: Path) -> None:
    sink.write(matches(1))
    path.rename(path.with_suffix(".1"))
    sink.write(matches(1, 1))
    assert path.with_suffix(".1").read_bytes() == b'{"n":0}\n'
    assert path.read_bytes() == b'{"n":1}\n'


def test_rotation_by_copy_and_truncate_is_followed(sink: JsonlSink, path: Path) -> None:
    sink.write(matches(1))
    os.truncate(path, 0)
    sink.write(matches(1, 1))
    assert path.read_bytes() == b'{"n":1}\n'


def test_a_removed_file_is_made_again(sink: JsonlSink, path: Path) -> None:
    path.unlink()
    sink.write(matches(1))
    sink.reopen()
    sink.write(matches(1, 1))
    assert path.read_bytes() == b'{"n":0}\n{"n":1}\n'


def test_an_incomplete_line_of_a_killed_agent_is_ended(path: Path) -> None:
    path.write_bytes(b'{"n":9}\n{"n')
    sink = JsonlSink(path)
    sink.write(matches(1))
    sink.close()
    assert path.read_bytes() == b'{"n":9}\n{"n\n{"n":0}\n'


def test_a_link_is_not_followed(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        JsonlSink(path)


class _Disk:
    """`os.write` on a disk that has `room` bytes left."""

    def __init__(self, room: int, error: int = errno.ENOSPC) -> None:
        self.room = room
        self._error = error
        self._write = os.write

    def __call__(self, fd: int, data: memoryview) -> int:
        if not self.room:
            raise OSError(self._error, os.strerror(self._error))
        written = self._write(fd, data[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", range(34))
def test_a_full_disk_never_leaves_an_incomplete_line(
    room: int, sink: JsonlSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Disk(room)
    monkeypatch.setattr(os, "write", disk)
    todo = matches(4)
    taken = sink.write(todo)
    assert taken == room // 8
    assert path.read_bytes() == b"".join(b'{"n":%d}\n' % n for n in range(taken))
    disk.room = 1000
    sink.write(todo[taken:])
    assert path.read_bytes() == b"".join(b'{"n":%d}\n' % n for n in range(4))


def test_if_nothing_can_be_cut_the_next_line_starts_on_its_own(
    sink: JsonlSink, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = _Disk(11)
    monkeypatch.setattr(os, "write", disk)
    monkeypatch.setattr(os, "ftruncate", _refuse)
    assert sink.write(matches(2)) == 1
    assert sink.write(matches(1, 1)) == 0
    disk.room = 1000
    assert sink.write(matches(1, 1)) == 1
    assert path.read_bytes() == b'{"n":0}\n{"n\n{"n":1}\n'


def _refuse(fd: int, length: int) -> None:
    raise OSError(errno.EPERM, "append only")


def test_a_pipe_that_takes_half_a_line_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    with _stdout_pipe() as read:
        sink = JsonlSink(None)
        disk = _Disk(11, errno.EAGAIN)
        monkeypatch.setattr(os, "write", disk)
        assert sink.write(matches(2)) == 2
        assert sink.write(matches(1, 2)) == 0
        disk.room = 1000
        assert sink.write(matches(1, 2)) == 1
        assert read() == b'{"n":0}\n{"n":1}\n{"n":2}\n'
        sink.close()


class _stdout_pipe:  # noqa: N801 - used as a statement
    """Replace stdout by a pipe."""

    def __enter__(self) -> Callable[[], bytes]:
        self._read, write = os.pipe()
        self._saved = os.dup(1)
        os.dup2(write, 1)
        os.close(write)
        return lambda: os.read(self._read, 4096)

    def __exit__(self, *_: object) -> None:
        os.dup2(self._saved, 1)
        os.close(self._saved)
        os.close(self._read)


def _no_room(path: Path, error: int) -> Callable[..., int]:
    real = os.open

    def opened(name: Path, *rest: int, **named: int) -> int:
        if name == path:
            raise OSError(error, os.strerror(error))
        return real(name, *rest, **named)

    return opened


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_is_full_at_the_start_is_tried_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """An agent that refused to start would watch nothing until a user starts it again."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", _no_room(path, error))
        sink = JsonlSink(path)
        assert sink.counters.errors == 1
        assert sink.write(matches(2)) == 0
        assert sink.retry_s < 2
    assert sink.write(matches(2)) == 2
    assert path.read_bytes() == b'{"n":0}\n{"n":1}\n'
    sink.close()


def test_any_other_error_at_the_start_is_the_users(tmp_path: Path) -> None:
    """A folder that does not exist will not appear."""
    with pytest.raises(FileNotFoundError):
        JsonlSink(tmp_path / "none/out.jsonl")
