"""Matches of package managers wait for the package database; all others pass at once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.context.packages import Owned
from agent.events.actors import Context, Process
from agent.events.model import Event, EventType, File
from agent.sinks import explain
from agent.sinks.base import Match
from agent.sinks.explain import HOLD_S, Explainer

DPKG = Context(Process(exe=b"/usr/bin/dpkg", package_manager=b"dpkg"))
SCRIPT = Context(Process(exe=b"/usr/bin/sh", package_manager=b"dpkg"))
NEW = os.O_WRONLY | os.O_CREAT


@dataclass
class Database:
    """A database with these digests."""

    known: dict[bytes, str] = field(default_factory=dict)
    name: str = "dpkg"

    def final_name(self, path: bytes) -> bytes:
        return path.removesuffix(b".dpkg-new")

    def owned(self, paths: Iterable[bytes], since_ns: int) -> dict[bytes, Owned]:
        assert since_ns == 1
        return {path: Owned("pkg 1.0", "md5", self.known[path]) for path in paths if path in self.known}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.now = 0.0
        self.sent: list[dict[str, Any]] = []
        self.database = Database()
        self.path = os.fsencode(folder / "file\n")
        self.explainer = Explainer({b"dpkg": self.database}, self._send, clock=lambda: self.now)

    def _send(self, match: Match) -> None:
        self.sent.append(json.loads(match.line))

    def match(self, kind: EventType = EventType.OPEN, context: Context = DPKG, **how: Any) -> None:
        values = {"flags": NEW, "file": File(self.path), **how}
        self.explainer.send(Match("r", kind.label, 1, b'{"rule":"r"}'), Event(kind, **values), context)

    def install(self, content: bytes = b"x", recorded: bytes | None = None) -> None:
        Path(os.fsdecode(self.path)).write_bytes(content)
        known = content if recorded is None else recorded
        self.database.known[self.path] = hashlib.md5(known, usedforsecurity=False).hexdigest()

    def step(self, seconds: float = 0.0) -> list[dict[str, Any]]:
        self.now += seconds
        self.explainer.step(self.now)
        return self.sent


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_file_of_a_package_is_explained(bench: Bench) -> None:
    """As soon as the database has its digest; also by its temporary name."""
    bench.match(file=File(bench.path + b".dpkg-new"))
    bench.match(EventType.RENAME, file=File(b"/else"), file2=File(bench.path))
    assert bench.step() == []
    bench.install()
    assert bench.step() == [{"rule": "r", "explained_by": "dpkg:pkg 1.0"}] * 2
    assert (bench.explainer.counters.explained, bench.explainer.held) == (2, 0)


def test_another_content_is_not_explained(bench: Bench) -> None:
    """It is delivered without a mark when the time is over."""
    bench.install(b"tampered", recorded=b"x")
    bench.match()
    assert bench.step(HOLD_S - 1) == []
    assert bench.step(1) == [{"rule": "r"}]
    assert bench.explainer.counters.unexplained == 1


@pytest.mark.parametrize(
    ("kind", "context", "how"),
    [
        (EventType.OPEN, Context(Process(exe=b"/home/me/dpkg", comm=b"dpkg")), {}),
        (EventType.OPEN, DPKG, {"uid": 1000}),
        (EventType.OPEN, SCRIPT, {"retval": -13}),
        (EventType.OPEN, DPKG, {"flags": os.O_RDONLY}),
        (EventType.OPEN, Context(Process(package_manager=b"npm")), {}),
        (EventType.CHMOD, SCRIPT, {}),
        (EventType.EXEC, SCRIPT, {}),
    ],
)
def test_others_never_wait(bench: Bench, kind: EventType, context: Context, how: dict[str, Any]) -> None:
    """Another user, a refusal, a read, a mode that a script of a package sets: the digest proves nothing."""
    bench.install()
    bench.match(kind, context, **how)
    assert bench.sent == [{"rule": "r"}]


def test_what_dpkg_itself_tries_in_vain_is_explained(bench: Bench) -> None:
    """It tries to remove a temporary file as a directory; the attempt of a script is no part of that."""
    bench.install()
    bench.match(EventType.RMDIR, file=File(bench.path + b".dpkg-new"), retval=-20)
    assert bench.step()[0]["explained_by"] == "dpkg:pkg 1.0"
    bench.match(EventType.RMDIR, SCRIPT, retval=-20)
    assert bench.sent[1:] == [{"rule": "r"}]


def test_attributes_that_dpkg_itself_sets_are_explained(bench: Bench) -> None:
    bench.install()
    bench.match(EventType.CHMOD)
    assert bench.step()[0]["explained_by"] == "dpkg:pkg 1.0"


def test_the_number_of_waiting_matches_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "MAX_HELD", 1)
    bench.match()
    bench.match()
    assert len(bench.sent) == bench.explainer.counters.overflow == bench.explainer.held == 1


def test_only_a_regular_file_is_opened(tmp_path: Path) -> None:
    """A FIFO would block, and a link names another file."""
    fifo, link, file = tmp_path / "fifo", tmp_path / "link", tmp_path / "file"
    os.mkfifo(fifo)
    file.touch()
    link.symlink_to("file")
    found = [explain.digest(os.fsencode(path), "md5") for path in (fifo, link, tmp_path / "none", file)]
    assert found == ["", "", "", hashlib.md5(usedforsecurity=False).hexdigest()]


def test_the_end_delivers_waiting_matches(bench: Bench) -> None:
    bench.explainer.start()
    bench.match()
    bench.explainer.close()
    assert bench.sent == [{"rule": "r"}]
