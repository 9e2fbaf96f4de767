"""What the agents count in a play: the difference between two states, without the neighbour's own losses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.campaigns.law.arena import _played, _since

# The player imports its modules as they lie in the guest, so it is not imported here.
STATUSES = """
import subprocess, time, types
from guest_player import Player

def state(process):
    with open(f"/proc/{process.pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]

def settled(process, stopped):
    deadline = time.monotonic() + 60
    while (state(process) == "T") != stopped and time.monotonic() < deadline:
        time.sleep(0.01)
    return (state(process) == "T") == stopped

def agent(name):
    def status():
        return {one: settled(processes[one], one != name) for one in processes}
    return types.SimpleNamespace(process=processes[name], status=status)

processes = {name: subprocess.Popen(["sleep", "120"]) for name in ("on", "off")}
player = Player()
player.agents = {name: agent(name) for name in processes}
try:
    answers = player.statuses()
    print(all(all(answer.values()) for answer in answers.values()) and list(answers))
    print(all(settled(process, False) for process in processes.values()))
finally:
    for process in processes.values():
        process.kill()
        process.wait()
"""


def state(seen: int, lost: int, to_neighbour: int) -> dict[str, Any]:
    ledger = {"open": {"seen": seen, "submitted": seen}}
    return {"ledger": ledger, "lost": lost, "lost_to_neighbour": to_neighbour, "dropped": 0, "open": []}


def test_a_play_has_what_was_counted_since_the_last() -> None:
    """An agent that has just started has counted only this play."""
    now = state(12, 5, 3)
    assert _since(None, now) == now
    counted = _since(state(10, 1, 0), now)
    assert counted == {**state(2, 4, 3), "ledger": {"open": {"seen": 2, "submitted": 2}}}


def test_only_losses_of_others_than_the_neighbour_count() -> None:
    """Of each agent by itself: what the agent without filters lost is no fault of the other."""
    status = {"on": state(2, 4, 3), "off": state(9, 9, 7)}
    played = _played([], {"on": [], "off": []}, status, [])
    assert (played.lost, played.lost_off, played.problems) == (1, 2, ())


def test_an_agent_is_asked_while_the_others_stand_still() -> None:
    """Of two agents only the one that is asked runs, and both run again afterwards."""
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", STATUSES], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["['on', 'off']", "True"], done.stderr
