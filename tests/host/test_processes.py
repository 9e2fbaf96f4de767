"""Zombies that nobody else waits for are reaped, and only those."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.host import processes


def zombie(*, leader: bool) -> int:
    """A child that has ended; a session's leader, as a program that becomes a daemon leaves one behind."""
    child = os.fork()
    if not child:
        if leader:
            os.setsid()
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


def test_only_session_leaders_of_that_name() -> None:
    """Any other child has a parent's code that waits for it, and would miss it."""
    name = Path("/proc/self/comm").read_text().strip()
    leader, other = zombie(leader=True), zombie(leader=False)
    processes.reap_session_leaders(f"not-{name}")
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    processes.reap_session_leaders(name)
    with pytest.raises(ChildProcessError):
        os.waitpid(leader, 0)
    assert os.waitpid(other, 0) == (other, 0)


def test_a_process_that_runs_stays() -> None:
    """Reaping does not wait."""
    child = os.fork()
    if not child:
        os.setsid()
        signal.pause()
    processes.reap_session_leaders(Path("/proc/self/comm").read_text().strip())
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[0] == child
