"""Work in threads: it goes on side by side, and its end kills programs and cuts waits short."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.host import background, locks
from harness.host.background import EndedError, Work
from harness.host.cache import Cache
from harness.host.processes import HeldProcess
from harness.host.programs import run


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work(2)
    yield made
    made.end()


def _wait_for(path: Path) -> None:
    while not path.exists():
        time.sleep(0.01)


def test_calls_run_side_by_side(work: Work) -> None:
    """Each waits for the other, so both return only if both are running."""
    both = threading.Barrier(2)
    assert sorted(part.result() for part in [work.submit(both.wait), work.submit(both.wait)]) == [0, 1]


def test_the_end_kills_programs_and_their_children(work: Work, tmp_path: Path) -> None:
    """A child of apt that survived would write into the cache afterwards."""
    script = f"sleep 86400 & echo $! >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; wait"
    part = work.submit(run, ["sh", "-c", script])
    _wait_for(tmp_path / "pid")
    child = HeldProcess(int((tmp_path / "pid").read_text()))
    work.end()
    assert isinstance(part.exception(), EndedError)
    assert child.ended(60)


def test_no_program_starts_after_the_end(work: Work, tmp_path: Path) -> None:
    """Neither does a call that no thread had taken."""
    begun, go = threading.Event(), threading.Event()

    def late() -> None:
        begun.set()
        go.wait()
        run(["touch", tmp_path / "late"])

    parts = [work.submit(late), work.submit(late), work.submit(late)]
    begun.wait()
    ender = threading.Thread(target=work.end)
    ender.start()
    while not work._ended.is_set():
        time.sleep(0.01)
    go.set()
    ender.join()
    assert isinstance(parts[0].exception(), EndedError)
    assert parts[2].cancelled()
    assert not (tmp_path / "late").exists()


@pytest.mark.parametrize("wait", ["pause", "lock"])
def test_the_end_cuts_waits_short(work: Work, tmp_path: Path, wait: str) -> None:
    """Before another attempt, and for a lock that another run holds."""
    with locks.locked(tmp_path / "lock"):
        waits = {"pause": lambda: background.pause(86400), "lock": lambda: locks.acquire(tmp_path / "lock")}
        part = work.submit(waits[wait])
        work.end()
        assert part.cancelled() or isinstance(part.exception(), EndedError)


def test_an_ended_entry_of_the_cache_leaves_nothing(work: Work, tmp_path: Path) -> None:
    """Not even the folder in which it was being made."""

    def build(folder: Path) -> None:
        (folder / "half").touch()
        (tmp_path / "begun").touch()
        run(["sleep", "86400"])

    part = work.submit(Cache(tmp_path / "cache").get, "kind", "key", build)
    _wait_for(tmp_path / "begun")
    work.end()
    assert isinstance(part.exception(), EndedError)
    assert {path.name for path in (tmp_path / "cache/kind").iterdir()} <= {"key.lock"}


def test_threads_make_an_entry_of_the_cache_once(work: Work, tmp_path: Path) -> None:
    """The second thread waits and reports no other run."""
    said: list[object] = []
    cache = Cache(tmp_path, said.append)
    begun, go = threading.Event(), threading.Event()
    made: list[Path] = []

    def build(folder: Path) -> None:
        made.append(folder)
        begun.set()
        go.wait()

    first = work.submit(cache.get, "kind", "key", build)
    begun.wait()
    second = work.submit(cache.get, "kind", "key", build)
    go.set()
    assert first.result() == second.result()
    assert len(made) == 1
    assert not said
