"""A mute holds back the matches that it names, until its end, and each mute is reported."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.errors import UsageError
from agent.events.model import Event, EventType, File
from agent.sinks import mute
from agent.sinks.mute import MAX_S, Mutes


class Bench:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "mutes.json"
        self.now = 1_000_000.0
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self.mutes = self.start()

    def start(self) -> Mutes:
        """Start the agent again."""
        self.mutes = Mutes(self.file, lambda kind, members: self.events.append((kind, members)), self.wall)
        return self.mutes

    def wall(self) -> float:
        return self.now

    def add(
        self, rule: str = "web_*", path: str = "/srv/**", seconds: float = 60, reason: str = "deploy"
    ) -> int:
        return self.mutes.add(rule, path, seconds, reason, 1000).id

    def holds(
        self, rule: str = "web_config", path: bytes = b"/srv/app/x", second: bytes | None = None
    ) -> bool:
        other = File(second) if second else None
        return self.mutes.holds(rule, Event(EventType.RENAME, file=File(path), file2=other))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_mute_holds_back_the_matches_that_it_names(bench: Bench) -> None:
    """By the id of the rule and the path of either file."""
    assert not bench.holds()
    bench.add()
    assert bench.holds()
    assert bench.holds(path=b"/tmp/x", second=b"/srv/x\n")
    assert not bench.holds("passwd_written")
    assert not bench.holds(path=b"/etc/passwd")
    (found,) = bench.mutes.state()["active"]
    assert found["matches"] == {"web_config /srv/app/x": 1, "web_config /srv/x\n": 1}
    assert (found["held"], found["reason"], found["uid"]) == (2, "deploy", 1000)


def test_it_ends_by_itself_and_both_ends_are_events(bench: Bench) -> None:
    bench.add()
    bench.holds()
    bench.now += 59
    bench.mutes.tick()
    assert bench.holds()
    bench.now += 1
    bench.mutes.tick()
    assert not bench.holds()
    assert [(kind, event["state"], event["held"]) for kind, event in bench.events] == [
        ("mute", "started", 0),
        ("mute", "ended", 2),
    ]
    assert bench.events[1][1]["reason"] == "deploy"
    assert bench.mutes.state()["ended"][0]["held"] == 2


def test_it_survives_a_restart_with_its_counts(bench: Bench) -> None:
    """After a kill only the counts of the last seconds are lost. Numbers are not used again."""
    assert bench.add() == 1
    bench.holds()
    bench.mutes.tick()
    assert bench.start().restore() == ""
    assert bench.holds()
    assert bench.mutes.active[0].held == 2
    bench.now += 60
    bench.mutes.tick()
    assert not bench.holds()
    bench.start().restore()
    assert not bench.holds()
    assert bench.add() == 2


def test_a_clock_that_is_set_back_does_not_prolong_it(bench: Bench) -> None:
    bench.add()
    bench.now -= 100_000
    bench.start().restore()
    bench.now += 60
    bench.mutes.tick()
    assert not bench.holds()


def test_it_can_be_ended(bench: Bench) -> None:
    number = bench.add()
    assert bench.mutes.end(number).held == 0
    assert not bench.holds()
    with pytest.raises(UsageError, match="no mute 1 is in force"):
        bench.mutes.end(number)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ({"rule": "", "path": ""}, "would hold back everything"),
        ({"rule": "*", "path": "/**"}, "would hold back everything"),
        ({"seconds": 0}, "a mute of 0 s"),
        ({"seconds": MAX_S + 1}, "a mute of"),
        ({"seconds": float("nan")}, "a mute of nan s"),
        ({"reason": " "}, "the reason must have"),
        ({"reason": "x" * 501}, "the reason must have"),
        ({"path": "/" + "a*" * 3000}, "invalid glob"),
    ],
)
def test_invalid_mutes(bench: Bench, how: dict[str, Any], error: str) -> None:
    with pytest.raises(UsageError, match=error):
        bench.add(**how)
    assert (bench.mutes.active, bench.events) == ([], [])


def test_their_number_is_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mute, "MAX_MUTES", 1)
    monkeypatch.setattr(mute, "MAX_LISTED", 1)
    bench.add()
    for name in (b"/srv/a", b"/srv/b", b"/srv/a"):
        assert bench.holds(path=name)
    assert bench.mutes.active[0].matches == {"web_config /srv/a": 2}
    assert bench.mutes.active[0].held == 3
    with pytest.raises(UsageError, match="1 mutes are in force"):
        bench.add()


def test_a_mute_that_cannot_be_stored_is_refused(bench: Bench) -> None:
    """It would not survive a restart."""
    bench.file.parent.joinpath("mutes.new").mkdir()
    with pytest.raises(UsageError, match="cannot store the mute"):
        bench.add()
    assert not bench.holds()
    assert bench.events == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"last": 1, "ended": [], "active": [{"x": 1}]}',
        "\udcff",
        "[" * 100_000,
        '{"last": Infinity}',
    ],
)
def test_a_damaged_file_mutes_nothing(bench: Bench, content: str) -> None:
    bench.file.write_text(content, errors="surrogateescape")
    assert bench.mutes.restore().startswith(f"no mute is in force: cannot read {bench.file}: ")
    assert not bench.holds()


@pytest.mark.parametrize(
    "change",
    [
        {"started": "x"},
        {"until": None},
        {"until": math.nan},
        {"until": 9e99},
        {"rule": 5},
        {"matches": {"a": "x"}},
    ],
)
def test_a_mute_with_a_value_of_no_use_mutes_nothing(bench: Bench, change: dict[str, Any]) -> None:
    """None of them ends the agent, now or at its first event, and none has no end."""
    bench.add()
    stored = json.loads(bench.file.read_text())
    stored["active"][0].update(change)
    bench.file.write_text(json.dumps(stored))
    assert bench.start().restore().startswith(f"no mute is in force: cannot read {bench.file}: ")
    assert bench.mutes.state() == {"active": [], "ended": []}


def test_a_file_that_others_can_write_mutes_nothing(bench: Bench) -> None:
    bench.add()
    os.chmod(bench.file, 0o666)  # noqa: PTH101 - beside its use
    assert "other users can write it" in bench.start().restore()
    assert json.loads(bench.file.read_text())["active"]
    assert not bench.holds()


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_folder_in_which_others_can_put_an_older_file_mutes_nothing(bench: Bench, mode: int) -> None:
    """Another user could bring back a mute that an operator has ended."""
    bench.file = bench.file.parent / "state/mutes.json"
    bench.file.parent.mkdir()
    bench.start()
    bench.add()
    bench.file.parent.chmod(mode)
    assert f"other users can write to {bench.file.parent}" in bench.start().restore()
    assert not bench.holds()
    bench.file.parent.chmod(0o700)
    assert bench.start().restore() == ""
    assert bench.holds()
