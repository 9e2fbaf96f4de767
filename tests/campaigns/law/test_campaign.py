"""The loop of a campaign: what ends it, what does not, and what it writes down."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, InfrastructureError
from tests import ROOT
from tests.campaigns.law.campaign import STARTS, Campaign, summary
from tests.campaigns.law.case import Case
from tests.campaigns.law.judge import Kind
from tests.campaigns.law.played import Match, Played, Record, Seen, Stat
from tests.campaigns.law.world import World

FILE = Stat("8:1", 12, 30, 0o100644, 0, 0)
OPENED = Record(
    "p0", 3, "open", ("open", "/w/x", "O_RDONLY"), 10, 10, 1, 0, 0, 3, 1,
    seen=(Seen(0, "/w/x", "/w/x", FILE, FILE),),
)  # fmt: skip
MATCH: Match = {
    "rule": "r0",
    "event": {"type": "open", "path": "/w/x", "retval": 0},
    "process": {"pid": 10, "tid": 10, "ppid": 1, "uid": 0, "gid": 0, "comm": "p0"},
}
KNOWN = frozenset(
    {("extra", "both", "open", ""), ("extra", "on", "open", ""), ("missing", "both", "open", "EACCES")}
)


class Fake:
    """An arena with these answers; an error is the death of the guest, and after the last there is Ctrl-C."""

    timing: tuple[float, ...] = ()

    def __init__(self, world: World, answers: Iterator[Played | Exception]) -> None:
        self.world = world
        self.answers = answers
        self.unwatched: dict[str, str] = {}
        self.dead = False

    def play(self, *_: object) -> Played:
        answer = next(self.answers, None)
        if answer is None:
            raise KeyboardInterrupt
        self.dead = isinstance(answer, Exception)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def death(self) -> str:
        return "panic: sysrq" if self.dead else "the machine runs"

    def complaints(self) -> list[str]:
        return ["panic: sysrq_handle_crash"] if self.dead else []


def campaign(opener: Callable[[World], Any], log: Path) -> Campaign:
    """One that ends with the first difference that is not known."""
    return Campaign(
        "6.1", 1, opener, lambda _: True, log, lambda _: None,
        batch=1, shrinking=False, once=True, known=KNOWN,
    )  # fmt: skip


def logged(log: Path, key: str) -> list[dict[str, Any]]:
    return [entry for entry in map(json.loads, log.read_text().splitlines()) if key in entry]


def test_it_goes_on_after_what_is_known_and_may_end_after_what_is_not(tmp_path: Path) -> None:
    """The third case has the first difference that is not expected; with `once` it is the last."""
    same = Played((OPENED,), (MATCH,), (MATCH,))
    arena = Fake(World.from_seed(1), iter([same, same, Played((OPENED,), (MATCH,), ())]))
    figures = campaign(lambda _: contextlib.nullcontext(arena), tmp_path / "log").run(1.0)
    assert list(arena.answers) == []
    assert {kind.check for kind in figures.known} == {"extra"}
    assert [(kind.check, kind.lacks) for kind in figures.kinds] == [("filter", "off")]


def test_a_play_in_which_the_agent_without_filters_lost_events_is_counted_and_no_difference(
    tmp_path: Path,
) -> None:
    """The campaign prints how many were lost, and compares the other plays as ever."""
    lost = Played((OPENED,), (MATCH,), (), lost_off=7)
    arena = Fake(World.from_seed(1), iter([lost, Played((OPENED,), (MATCH,), (MATCH,))]))
    tried = campaign(lambda _: contextlib.nullcontext(arena), tmp_path / "log")
    lines: list[str] = []
    tried.say = lines.append
    with pytest.raises(KeyboardInterrupt):
        tried.run(1.0)
    assert {kind.check for kind in (*tried.figures.kinds, *tried.figures.known)} == {"extra"}
    assert [line.endswith("not comparable: the unfiltered agent lost 7") for line in lines] == [True, False]
    line = "filters on and off not comparable in 1 plays: the unfiltered agent lost events"
    assert line in summary(tried.figures)
    (ended,) = logged(tmp_path / "log", "summary")
    assert ended["summary"]["not_comparable"] == 1
    assert [entry["lost_off"] for entry in logged(tmp_path / "log", "records")] == [7, 0]


@pytest.mark.parametrize(("spelling", "expected"), [("link", True), ("proc", True), ("plain", False)])
def test_a_refusal_of_a_plain_path_is_never_expected(tmp_path: Path, spelling: str, expected: bool) -> None:
    """What is expected is about paths that callers write in another way."""
    kind = Kind("missing", "both", "open", "open", "tmpfs", spelling, "EACCES")
    assert campaign(contextlib.nullcontext, tmp_path / "log")._expected(kind) is expected


def test_a_guest_that_dies_is_a_finding_and_the_next_case_has_another_guest(tmp_path: Path) -> None:
    """The log has how it died, what its kernel said, and the case to replay."""
    same = Played((OPENED,), (MATCH,), (MATCH,))
    died = InfrastructureError("the player in the guest ended")
    answers: Iterator[Played | Exception] = iter([same, died, same, same])
    worlds: list[int] = []
    tried = campaign(lambda _: contextlib.nullcontext(), tmp_path / "log")

    def opened(world: World) -> Any:
        worlds.append(world.seed)
        return contextlib.nullcontext(Fake(world, answers))

    tried.opener, tried.once = opened, False
    with pytest.raises(KeyboardInterrupt):
        tried.run(1.0)
    assert worlds == [1, 2]
    (found,) = logged(tmp_path / "log", "died")
    assert (found["seed"], found["case"]) == (1, 1)
    assert found["died"] == "the player in the guest ended; panic: sysrq"
    assert Case.from_json(found["small"]) == tried.case(World.from_seed(1), 1)
    assert [entry["console"] for entry in logged(tmp_path / "log", "console")] == [
        "panic: sysrq_handle_crash"
    ]
    assert [entry["case"] for entry in logged(tmp_path / "log", "records")] == [0, 2, 3]
    (ended,) = logged(tmp_path / "log", "summary")
    assert {one["kind"] for one in ended["summary"]["kinds"]} == {"died", "console panic: sysrq_handle_crash"}


def test_guests_that_do_not_start_are_findings_and_end_it_at_last(tmp_path: Path) -> None:
    """The summary and how the machines ended are written as well; a wrong command line ends it at once."""

    def refused(_: World) -> Any:
        error = InfrastructureError("the agent did not start")
        error.add_note("the machine runs")
        raise error

    tried = campaign(refused, tmp_path / "log")
    tried.once = False
    with pytest.raises(InfrastructureError, match="did not start"):
        tried.run(1.0)
    entries = logged(tmp_path / "log", "start")
    assert [entry["world"] for entry in entries] == list(range(1, 1 + STARTS))
    assert entries[0]["start"] == "the agent did not start; the machine runs"
    assert f"{STARTS:6} start InfrastructureError (first after 0 programs)" in summary(tried.figures)

    def wrong(_: World) -> Any:
        raise ConfigError("no such kernel")

    tried = campaign(wrong, tmp_path / "other")
    with pytest.raises(ConfigError):
        tried.run(1.0)
    assert tried.figures.guests == 1


DRAW = """
import hashlib, json, sys
from pathlib import Path
from tests.campaigns.law.__main__ import loads
from tests.campaigns.law.campaign import Campaign
from tests.campaigns.law.world import World
seed = int(sys.argv[1])
one = Campaign("6.1", seed, None, loads, Path("unused"), print, batch=20)
for number in range(10):
    print(hashlib.sha256(json.dumps(one.case(World.from_seed(seed), number).to_json()).encode()).hexdigest())
"""


def test_a_seed_and_a_number_make_the_same_case_in_every_process() -> None:
    """Rules, programs and reloads of ten cases are the same bytes; another seed has others."""

    def drawn(seed: int, hashes: int) -> list[str]:
        env = {**os.environ, "PYTHONHASHSEED": str(hashes)}
        command = [sys.executable, "-c", DRAW, str(seed)]
        done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout.split()

    first = drawn(31, 1)
    assert drawn(31, 2) == first
    assert len({*first, *drawn(32, 1)}) == 20
