"""The cache: an entry is complete or absent, damage is noticed, and only one process makes an entry."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InfrastructureError
from harness.host import cache, locks, manifest
from harness.host.cache import Cache
from harness.host.programs import run
from harness.host.progress import Event

Usage = namedtuple("Usage", "total used free")
SPAWN = multiprocessing.get_context("spawn")


def write(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/data").write_bytes(b"data")
    (folder / "link").symlink_to("sub/data")


def never(folder: Path) -> None:
    raise AssertionError("an entry that is good was made again")


def test_an_entry_is_made_once_and_verified_by_the_next_run(tmp_path: Path) -> None:
    content = Cache(tmp_path).get("kind", "key", write)
    assert (content / "sub/data").read_bytes() == b"data"
    assert Cache(tmp_path).get("kind", "key", never) == content


def test_an_unchanged_entry_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that needs images of 300 MB does not read them only to verify them."""

    def read(_path: Path) -> str:
        raise AssertionError("a file was read")

    Cache(tmp_path).get("kind", "key", write)
    monkeypatch.setattr(manifest, "file_digest", read)
    Cache(tmp_path).get("kind", "key", never)


def test_damage_with_the_old_size_and_time_is_noticed(tmp_path: Path) -> None:
    """No program can set the time at which the kernel records a change of the inode."""
    data = Cache(tmp_path).get("kind", "key", write) / "sub/data"
    before = data.stat()
    data.write_bytes(b"dat!")
    os.utime(data, ns=(before.st_atime_ns, before.st_mtime_ns))
    events: list[Event] = []
    Cache(tmp_path, events.append).get("kind", "key", write)
    assert data.read_bytes() == b"data"
    assert "sub/data was changed" in str(events)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda entry: (entry / "content/sub/data").write_bytes(b"dat!"), "sub/data was changed"),
        (lambda entry: (entry / "content/sub/data").unlink(), "sub/data is missing"),
        (lambda entry: (entry / "content/more").write_bytes(b""), "more is not in the manifest"),
        (lambda entry: (entry / "content/link").unlink(), "link is missing"),
        (lambda entry: (entry / "manifest.json").unlink(), "cannot be read"),
        (lambda entry: (entry / "manifest.json").write_text("{"), "cannot be read"),
        (lambda entry: (entry / "manifest.json").write_text("[]"), "not a manifest"),
        (lambda entry: shutil.rmtree(entry / "content"), "link is missing"),
    ],
)
def test_a_damaged_entry_is_made_again_and_one_line_says_so(
    tmp_path: Path, harm: Callable[[Path], object], words: str
) -> None:
    lines: list[Event] = []
    harm(Cache(tmp_path).get("kind", "key", write).parent)
    content = Cache(tmp_path, lines.append).get("kind", "key", write)
    assert (content / "link").read_bytes() == b"data"
    assert len(lines) == 1
    assert words in str(lines[0])


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Cache(tmp_path).get("kind", "key", fail)
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["key.lock"]
    Cache(tmp_path).get("kind", "key", write)


def _make_together(root: Path, start: Barrier) -> None:
    def build(folder: Path) -> None:
        with (root / "builds").open("a") as log:
            log.write("x")
        write(folder)

    start.wait(timeout=60)
    content = Cache(root).get("kind", "key", build)
    assert (content / "sub/data").read_bytes() == b"data"


def test_of_several_processes_one_makes_the_entry(tmp_path: Path) -> None:
    start = SPAWN.Barrier(4)
    runs = [SPAWN.Process(target=_make_together, args=(tmp_path, start)) for _ in range(4)]
    for each in runs:
        each.start()
    for each in runs:
        each.join(timeout=60)
    assert [each.exitcode for each in runs] == [0, 0, 0, 0]
    assert (tmp_path / "builds").read_text() == "x"


def _die_making(root: Path) -> None:
    def build(folder: Path) -> None:
        write(folder)
        os.kill(os.getpid(), signal.SIGKILL)

    Cache(root).get("kind", "key", build)


def test_files_of_a_killed_run_do_not_disturb_the_next(tmp_path: Path) -> None:
    killed = SPAWN.Process(target=_die_making, args=(tmp_path,))
    killed.start()
    killed.join(timeout=60)
    assert killed.exitcode == -signal.SIGKILL
    assert (tmp_path / "kind/key.partial").exists()
    content = Cache(tmp_path).get("kind", "key", write)
    assert (content / "sub/data").read_bytes() == b"data"
    assert not (tmp_path / "kind/key.partial").exists()


def test_clean_removes_the_files_of_a_killed_run(tmp_path: Path) -> None:
    (tmp_path / "kind/key.partial/content").mkdir(parents=True)
    Cache(tmp_path).clean()
    assert list((tmp_path / "kind").iterdir()) == []


def _fill(root: Path, *keys: str) -> None:
    """Make entries of 4 bytes each, the first used longest ago; no process uses any."""
    for age, key in enumerate(reversed(keys)):
        store = Cache(root)
        entry = store.get("kind", key, write).parent
        os.close(store._in_use.pop(entry))
        os.utime(entry, (time.time() - 100 * (age + 1),) * 2)


def test_clean_keeps_the_most_recently_used(tmp_path: Path) -> None:
    """The kept entry is neither the newest nor the first or last by name."""
    _fill(tmp_path, "c", "a", "b")
    assert Cache(tmp_path).clean(keep_bytes=5) == 8
    assert [path.name for path in (tmp_path / "kind").iterdir() if path.is_dir()] == ["b"]


def test_clean_keeps_what_is_recent(tmp_path: Path) -> None:
    _fill(tmp_path, "a", "b", "c")
    assert Cache(tmp_path).clean(older_than_s=150) == 8


def test_clean_keeps_what_is_in_use(tmp_path: Path) -> None:
    user = Cache(tmp_path)
    user.get("kind", "used", write)
    assert Cache(tmp_path).clean() == 0
    assert user.size() == 4


def test_a_damaged_manifest_does_not_stop_a_clean(tmp_path: Path) -> None:
    _fill(tmp_path, "a", "b")
    (tmp_path / "kind/a/manifest.json").write_text(json.dumps({"size": "many"}))
    Cache(tmp_path).clean()
    assert Cache(tmp_path).size() == 0


def test_a_lack_of_space_is_an_error_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 99, cache.MIB))
    with pytest.raises(InfrastructureError, match=r"no disk space in .*: 1 MiB free, 3 MiB needed") as caught:
        Cache(tmp_path).get("kind", "key", never, needs=3 * cache.MIB)
    assert caught.value.exit_code == 3
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_a_disk_that_fills_up_is_one_clear_error(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InfrastructureError, match="no disk space"):
        Cache(tmp_path).get("kind", "key", fill)


def test_a_program_that_failed_on_a_full_disk_is_blamed_on_the_disk(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        run(["sh", "-c", "echo 'tar: x: No space left on device' >&2; exit 2"])

    with pytest.raises(InfrastructureError, match=r"no disk space in .*: sh ended with status 2"):
        Cache(tmp_path).get("kind", "key", fail)


def test_a_cache_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "kind").write_text("")
    with pytest.raises(InfrastructureError, match="cache cannot be used"):
        Cache(tmp_path).get("kind", "key", write)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("/x", "/x/fim-harness"), ("", "~/.cache/fim-harness"), ("rel", "~/.cache/fim-harness")],
)
def test_the_folder_of_the_cache(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", variable)
    assert cache.default_root() == Path(expected).expanduser()


def test_a_lock_excludes_and_ends_with_its_block(tmp_path: Path) -> None:
    with locks.locked(tmp_path / "lock") as mine, locks.locked(tmp_path / "lock", wait=False) as other:
        assert (mine, other) == (True, False)
    with locks.locked(tmp_path / "lock", wait=False) as mine:
        assert mine


PARTS = st.lists(st.binary(max_size=4), max_size=4)


@given(PARTS, PARTS)
def test_a_key_depends_on_each_part(some: list[bytes], others: list[bytes]) -> None:
    assert (cache.digest(*some) == cache.digest(*others)) == (some == others)
