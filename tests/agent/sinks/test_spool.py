"""The spool: in order, bounded, and correct after any crash."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import UsageError
from agent.sinks.spool import Chunk, Spool


def chunk(number: int, size: int = 8, matches: int = 1) -> Chunk:
    return Chunk(b"%0*d" % (size, number), matches)


def drain(spool: Spool) -> list[int]:
    found = []
    while (head := spool.peek()) is not None:
        found.append(int(head.content))
        spool.pop()
    return found


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def test_first_in_first_out_across_segments(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=50)
    for number in range(9):
        assert spool.append(chunk(number, matches=3))
    assert (spool.matches, spool.size, len(segments(tmp_path))) == (27, 9 * 20, 5)
    assert drain(spool) == list(range(9))
    assert (spool.matches, spool.size, segments(tmp_path)) == (0, 0, [])
    spool.close()


def test_a_restart_continues_at_the_stored_position(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=50)
    for number in range(7):
        spool.append(chunk(number, matches=2))
    for _ in range(3):
        spool.pop()
    spool.close()
    spool = Spool(tmp_path, segment_bytes=50)
    assert spool.matches == 8
    assert drain(spool) == [3, 4, 5, 6]
    spool.append(chunk(7))  # a new segment must not be taken for the one the cursor spoke of
    spool.close()
    spool = Spool(tmp_path, segment_bytes=50)
    assert drain(spool) == [7]
    spool.close()


def test_the_bound_drops_the_oldest_and_counts(tmp_path: Path) -> None:
    spool = Spool(tmp_path, max_bytes=100, segment_bytes=40)
    for number in range(50):
        spool.append(chunk(number, matches=2))
        assert spool.size <= 100
        assert sum(path.stat().st_size for path in segments(tmp_path)) <= 100
    left = spool.matches
    assert drain(spool) == list(range(50 - left // 2, 50))
    assert spool.counters.dropped == 100 - left
    spool.close()


def test_a_chunk_larger_than_a_segment_is_dropped(tmp_path: Path) -> None:
    spool = Spool(tmp_path, segment_bytes=50)
    assert not spool.append(chunk(1, size=40, matches=5))
    assert spool.counters.dropped == 5
    spool.close()


@pytest.mark.parametrize("cut", range(1, 20))
def test_an_incomplete_end_loses_only_itself(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append(chunk(number))
    spool.close()
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    spool = Spool(tmp_path)
    assert spool.counters.corrupt_bytes == 20 - cut
    spool.append(chunk(3))
    assert drain(spool) == [0, 1, 3]
    spool.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 120), st.binary(min_size=1, max_size=8)), max_size=4))
def test_any_damage_is_survived(tmp_path: Path, damage: list[tuple[int, bytes]]) -> None:
    for path in segments(tmp_path):
        path.unlink()
    spool = Spool(tmp_path)
    for number in range(6):
        spool.append(chunk(number))
    spool.close()
    (path,) = segments(tmp_path)
    content = bytearray(path.read_bytes())
    for offset, data in damage:
        content[offset : offset + len(data)] = data
    path.write_bytes(content)
    spool = Spool(tmp_path)
    left = spool.matches
    found = 0
    while spool.peek() is not None:
        spool.pop()
        found += 1
    assert found <= 6 + sum(len(data) for _, data in damage)
    assert spool.matches == 0
    assert left >= 0
    spool.close()


def test_zeros_are_damage(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(chunk(0))
    spool.close()
    (path,) = segments(tmp_path)
    path.write_bytes(path.read_bytes() + bytes(100))
    spool = Spool(tmp_path)
    assert spool.counters.corrupt_bytes == 100
    assert drain(spool) == [0]
    spool.close()


def test_a_damaged_position_repeats_and_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    for number in range(3):
        spool.append(chunk(number))
    spool.pop()
    spool.close()
    (tmp_path / "cursor").write_text("what")
    spool = Spool(tmp_path)
    assert drain(spool) == [0, 1, 2]
    spool.close()


def test_a_removed_segment_is_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append(chunk(0, matches=4))
    segments(tmp_path)[0].unlink()
    assert spool.peek() is None
    assert (spool.matches, spool.counters.dropped) == (0, 4)
    spool.close()


def test_a_full_disk_loses_only_new_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append(chunk(0))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _half_then_full(os.pwrite))
        assert not spool.append(chunk(1, matches=7))
    spool.append(chunk(2))
    assert drain(spool) == [0, 2]
    assert spool.counters.dropped == 7
    spool.close()


def _half_then_full(real: Callable[[int, memoryview, int], int]) -> Callable[[int, memoryview, int], int]:
    full: list[bool] = []

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, "full")
        full.append(True)
        return real(fd, data[: len(data) // 2], offset)

    return pwrite


def test_a_spool_belongs_to_one_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(UsageError, match="in use by another agent"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()
