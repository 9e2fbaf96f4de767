"""The journal's native protocol on a socket, and matches without a journal."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from agent.sinks.backoff import Backoff
from agent.sinks.base import Match
from agent.sinks.journald import JournaldSink
from tests.agent.sinks.conftest import match


def test_an_entry_has_the_rule_as_a_field(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        sink = JournaldSink(tmp_path / "socket")
        assert sink.write([match(1), match(2, "agent.loss")]) == 2
        lines = journal.recv(1000).decode().splitlines()
        assert lines == [
            "PRIORITY=5",
            "SYSLOG_IDENTIFIER=fim-agent",
            "FIM_RULE=rule",
            "FIM_EVENT=open",
            'MESSAGE={"n":1}',
        ]
        assert journal.recv(1000).startswith(b"PRIORITY=4\n")
    assert sink.counters.delivered == 2


def test_a_large_entry_comes_in_a_sealed_file(tmp_path: Path) -> None:
    line = b"x" * (8 << 20)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "socket"))
        assert JournaldSink(tmp_path / "socket").write([Match("r", "open", 1, line)]) == 1
        _, (file,), _, _ = socket.recv_fds(journal, 10, 1)
    with os.fdopen(file, "rb") as sealed:
        sealed.seek(0)
        assert sealed.read().endswith(b"MESSAGE=" + line + b"\n")


def test_without_a_journal_matches_wait(tmp_path: Path) -> None:
    sink = JournaldSink(tmp_path / "none", backoff=Backoff(random=lambda: 0.0))
    assert [sink.write([match()]), sink.write([match()])] == [0, 0]
    assert (sink.counters.errors, sink.retry_s) == (2, 2.0)
