"""A campaign continues after an interruption, and the process of a run ends as `harness run` does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from harness.run.supplies import Supplies
from tests.campaigns.faults import campaign, player
from tests.campaigns.faults.campaign import Campaign
from tests.campaigns.faults.draw import Draw, drawn, healthy
from tests.campaigns.faults.judge import Ended

DRAW = Draw("panic", "test", 0.5, busy=False)
SUPPLIES = Supplies(accelerator="tcg")


def _campaign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Campaign, list[int]]:
    """Return a campaign whose runs need no machine, and the numbers of the runs that it played."""
    made = Campaign("6.1", folder / "log", folder / "keep", lambda _line: None)
    ran: list[int] = []

    def one(number: int, draw: Draw, *_: Any) -> Ended:
        ran.append(number)
        ended = Ended(number, draw, "PASS", 0, "right", "", 1.0, 0.0, {}, "6.1")
        with made.log.open("a") as file:
            file.write(ended.line())
        return ended

    monkeypatch.setattr(made, "_prepared", lambda _scratch: (SUPPLIES, []))
    monkeypatch.setattr(made, "_one", one)
    return made, ran


def test_a_campaign_continues_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in the log are not played again, and the result has all requested runs."""
    made, ran = _campaign(tmp_path, monkeypatch)
    made.random(1, 3)
    assert [one.draw for one in made.random(1, 5)] == [drawn(1, number) for number in range(5)]
    assert ran == [0, 1, 2, 3, 4]
    made.steady(1, 2)
    assert [one.draw for one in made.steady(1, 2)] == [healthy(1, 0), healthy(1, 1)]
    assert ran == [0, 1, 2, 3, 4, 0, 1]


def test_another_seed_is_another_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, ran = _campaign(tmp_path, monkeypatch)
    made.random(1, 3)
    made.random(2, 3)
    assert len(ran) == 6


@pytest.mark.parametrize(("code", "seen"), [(0, 0), (4, 4)])
def test_a_run_ends_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, seen: int
) -> None:
    monkeypatch.setattr(player, "play", lambda *_: code)
    pid = player.forked(DRAW, 0.0, SUPPLIES, [], tmp_path)
    assert campaign._waited(pid) == (seen, "")


def test_a_run_that_raises_ends_as_python_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit code 1, which no fault of the host may cause, and with its traceback."""

    def play(*_: Any) -> int:
        raise AssertionError("the harness is broken")

    monkeypatch.setattr(player, "play", play)
    pid = player.forked(DRAW, 0.0, SUPPLIES, [], tmp_path)
    assert campaign._waited(pid) == (1, "")
    assert "the harness is broken" in (tmp_path / "output.txt").read_text()


def test_a_run_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "play", lambda *_: os.read(os.pipe()[0], 1))
    monkeypatch.setattr(campaign, "LIMIT_S", 0.2)
    code, problem = campaign._waited(player.forked(DRAW, 0.0, SUPPLIES, [], tmp_path))
    assert code == -9
    assert "did not end" in problem
