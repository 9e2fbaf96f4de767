"""Sends matches to systemd's journal in its native protocol, with the rule and the event as fields."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from agent.sinks.backoff import Backoff
from agent.sinks.base import Match, SinkCounters
from agent.sinks.syslog import APP_NAME, NOTICE, SEVERITIES

SOCKET = Path("/run/systemd/journal/socket")
_TIMEOUT_S = 5.0
_IDLE_S = 3600.0
# The journal takes only a file that cannot change any more.
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournaldSink:
    """Sends each match as one entry. Without a journal matches stay in the dispatcher's queue."""

    name = "journald"
    linger_s = 0.0

    def __init__(self, path: Path = SOCKET, *, backoff: Backoff | None = None) -> None:
        self.counters = SinkCounters()
        self.last_error = ""
        self._path = path
        self._backoff = backoff or Backoff()
        self._delay_s = 0.0

    def write(self, matches: Sequence[Match]) -> int:
        """Send matches in order, as many as the journal accepts."""
        sent = 0
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
                journal.settimeout(_TIMEOUT_S)
                journal.connect(str(self._path))
                for match in matches:
                    _send(journal, _entry(match))
                    sent += 1
        except OSError as error:
            self.counters.errors += 1
            self.last_error = str(error)
            self._delay_s = self._backoff.delay_s()
        else:
            self._backoff.reset()
            self._delay_s = 0.0
        self.counters.delivered += sent
        return sent

    def tick(self) -> None:
        """Do nothing: this sink has no deferred work."""

    @property
    def retry_s(self) -> float:
        """Seconds until the next attempt after a failure, else long."""
        return self._delay_s or _IDLE_S

    def reopen(self) -> None:
        """Do nothing: each batch has a connection of its own."""

    def close(self) -> None:
        """Do nothing: each batch has a connection of its own."""

    def status(self) -> dict[str, int]:
        """Return no numbers in addition to the counters."""
        return {}


def _entry(match: Match) -> bytes:
    """Return an entry; no value has a newline, because lines are JSON and ids of rules are words."""
    fields = {
        "PRIORITY": str(SEVERITIES.get(match.rule, NOTICE)),
        "SYSLOG_IDENTIFIER": APP_NAME,
        "FIM_RULE": match.rule,
        "FIM_EVENT": match.event_type,
    }
    head = "".join(f"{name}={value}\n" for name, value in fields.items())
    return head.encode("ascii") + b"MESSAGE=" + match.line + b"\n"


def _send(journal: socket.socket, entry: bytes) -> None:
    """Send an entry; one that is too large for a datagram in a sealed file."""
    try:
        journal.send(entry)
    except OSError as error:
        if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
            raise
        file = os.memfd_create("fim-match", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(file), "wb") as whole:
                whole.write(entry)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(journal, [b""], [file])
        finally:
            os.close(file)
