"""The messages for systemd, and their times."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from agent.service.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(str(tmp_path / "notify"))
    server.setblocking(False)
    return server


def test_states_and_the_watchdog(systemd: socket.socket) -> None:
    """The watchdog gets four messages in its period, and child processes do not inherit the variables."""
    environment = {
        "NOTIFY_SOCKET": systemd.getsockname(),
        "WATCHDOG_USEC": "4000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    now = [0.0]
    notifier = Notifier(environment, lambda: now[0])
    assert environment == {"HOME": "/"}
    notifier.send("READY=1")
    for _ in range(9):
        notifier.alive()
        now[0] += 0.25
    assert [systemd.recv(100) for _ in range(4)] == [b"READY=1", *[b"WATCHDOG=1"] * 3]
    with pytest.raises(BlockingIOError):
        systemd.recv(100)
    systemd.close()


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(f"\0fim-test-{os.getpid()}")
        Notifier({"NOTIFY_SOCKET": f"@fim-test-{os.getpid()}"}).send("STOPPING=1", "STATUS=x")
        assert server.recv(100) == b"STOPPING=1\nSTATUS=x"


@pytest.mark.parametrize(
    "environment",
    [{}, {"NOTIFY_SOCKET": "/nowhere"}, {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}],
)
def test_without_systemd_nothing_happens(environment: dict[str, str]) -> None:
    """Also if its socket is gone, and for the watchdog of another process."""
    notifier = Notifier(environment)
    notifier.send("READY=1")
    notifier.alive()
    assert notifier._every_s == 0
