"""What a running agent has written, as scenarios read it."""

from __future__ import annotations

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
