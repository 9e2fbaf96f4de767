"""The number of events of a script, computed from its lines and the results of its calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.events.model import EventType
from agent.selftest import effects
from agent.selftest.workload import Workload


def test_every_kind_of_effect(workload: Workload, tmp_path: Path) -> None:
    outcome = workload.run(
        f"repeat 3\nopen {tmp_path}/f%d O_RDWR|O_CREAT 0600 -> $0\nwrite $0 x\nclose $0\nend\n"
        f"open {tmp_path}/f0 O_RDONLY -> $0\nclose $0\n"
        f"open {tmp_path}/none O_WRONLY -> $1\nclose $1\n"
        f"fork -> $2\ncomm child\nunlink {tmp_path}/f1\nunlink {tmp_path}/f1\nend\nwait $2\n"
        f"rename {tmp_path}/f0 {tmp_path}/g\nmkdir {tmp_path}/d 0755\nrmdir {tmp_path}/d\n"
    )
    assert effects.generated(outcome) == {
        EventType.OPEN: 4,
        EventType.CLOSE: 3,
        EventType.FORK: 1,
        EventType.EXIT: 1,
        EventType.UNLINK: 1,
        EventType.RENAME: 1,
        EventType.MKDIR: 1,
        EventType.RMDIR: 1,
    }


def test_an_unknown_call_is_an_error(
    workload: Workload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(effects.CALLS, "chmod")
    with pytest.raises(ValueError, match="the event of call chmod is unknown"):
        effects.generated(workload.run(f"chmod {tmp_path} 0700\n"))
