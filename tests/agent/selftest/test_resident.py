"""What a running agent has written, as scenarios read it."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from agent.selftest.resident import Resident

OWN = b'{"rule":"agent.heartbeat","agent":{}}\n'


def test_events_of_the_agent_itself_are_no_matches(tmp_path: Path) -> None:
    """Scenarios count matches; a line that is not complete stays the last one."""
    resident = object.__new__(Resident)
    resident._output = tmp_path / "matches.jsonl"
    assert resident.lines() == []
    resident._output.write_bytes(OWN + b'{"rule":"a"}\n' + OWN + b'{"rule":"b"')
    assert resident.lines() == [b'{"rule":"a"}\n', b'{"rule":"b"']


def test_a_command_can_start_it(tmp_path: Path) -> None:
    """The command gets the whole command line of the agent as its arguments."""
    shell = ("sh", "-c", 'printf "%s\\n" "$@" > "$0"; echo watching >&2', str(tmp_path / "started"))
    with closing(Resident(tmp_path, {}, ("--hookset", "auto"), 60.0, shell)) as resident:
        assert resident.wait() == 0
    started = (tmp_path / "started").read_text().splitlines()
    assert started[:4] == [sys.executable, "-m", "agent", "run"]
    assert started[-2:] == ["--hookset", "auto"]
