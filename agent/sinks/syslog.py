"""Sends matches to a syslog server: RFC 5424 over a Unix socket, TCP or TLS.

On TCP and TLS each message has its length before it (RFC 6587, RFC 5425), so that no content can forge the
start of another one. Syslog has no acknowledgement: what was written to a connection that breaks may be lost,
and what was written to one that reports an error is sent again.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from agent.errors import UsageError
from agent.sinks.backoff import Backoff
from agent.sinks.base import Match, SinkCounters

if TYPE_CHECKING:
    import ssl

FACILITY = 10  # authpriv: messages that not every user may read
NOTICE = 5
SEVERITIES = {"agent.loss": 4, "agent.heartbeat": 6}  # warning and info; all others are notices
APP_NAME = "fim-agent"
_TLS_PORT = 6514
_TIMEOUT_S = 10.0
_IDLE_S = 3600.0
_SCHEMES = ("unix", "tcp", "tls")


class Server(NamedTuple):
    """Where to send: `address` is a path for `unix`, else a host with `port`. `ca` is a file, or None."""

    scheme: str
    address: str
    port: int = 0
    ca: Path | None = None


def server(url: str, ca: Path | None = None) -> Server:
    """Return the server of `unix:PATH`, `tcp://HOST:PORT` or `tls://HOST[:PORT]`. Raises UsageError."""
    hint = "write unix:/dev/log, tcp://HOST:PORT or tls://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port or (_TLS_PORT if parts.scheme == "tls" else 0)
    except ValueError as error:
        raise UsageError(f"invalid syslog server {url!r}: {error}", hint=hint) from error
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Server("unix", parts.path)
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if parts.scheme not in _SCHEMES[1:] or not parts.hostname or not port or extra:
        raise UsageError(f"invalid syslog server {url!r}", hint=hint)
    return Server(parts.scheme, parts.hostname, port, ca)


class SyslogSink:
    """Sends each match as one message. Without a connection matches stay in the dispatcher's queue."""

    name = "syslog"
    linger_s = 0.0

    def __init__(
        self,
        to: Server,
        host: str,
        *,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = SinkCounters()
        self.last_error = ""
        self._server = to
        self._host = re.sub(r"[^!-~]", "_", host)[:255] or "-"
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._next_attempt = clock()
        self._failed = False
        self._context = _context(to) if to.scheme == "tls" else None
        self._socket: socket.socket | None = None

    def write(self, matches: Sequence[Match]) -> int:
        """Send matches in order."""
        if self._clock() < self._next_attempt:
            return 0
        messages = [self._message(match) for match in matches]
        try:
            connection = self._connected()
            sent = _datagrams(connection, messages) if self._server.scheme == "unix" else None
            if sent is None:
                connection.sendall(b"".join(b"%d %s" % (len(each), each) for each in messages))
                sent = _Sent(len(messages), 0)
        except OSError as error:
            self._fail(error)
            return 0
        self._failed = False
        self._backoff.reset()
        self.counters.delivered += sent.taken - sent.too_large
        self.counters.dropped += sent.too_large
        if sent.taken < len(messages):
            self._fail(sent.error or OSError("the socket is full"))
        return sent.taken

    def tick(self) -> None:
        """Do nothing: this sink has no deferred work."""

    @property
    def retry_s(self) -> float:
        """Seconds until the next attempt after a failure, else long."""
        return max(0.0, self._next_attempt - self._clock()) if self._failed else _IDLE_S

    def reopen(self) -> None:
        """Use a new connection for the next message."""
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def status(self) -> dict[str, int]:
        """Return whether a connection is open."""
        return {"connected": int(self._socket is not None)}

    def _message(self, match: Match) -> bytes:
        """Return a message of RFC 5424, which has at most six digits of a second."""
        seconds, rest = divmod(match.unix_ns, 1_000_000_000)
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest // 1000:06d}Z"
        priority = FACILITY * 8 + SEVERITIES.get(match.rule, NOTICE)
        head = f"<{priority}>1 {at} {self._host} {APP_NAME} {os.getpid()} {match.event_type} - "
        return head.encode("ascii") + match.line

    def _fail(self, error: OSError) -> None:
        self.counters.errors += 1
        self.last_error = str(error)
        self._failed = True
        self._next_attempt = self._clock() + self._backoff.delay_s()
        self.close()

    def _connected(self) -> socket.socket:
        """Return an open connection; a new one if the server has closed it. Raises OSError."""
        if self._socket is not None and self._context is None and _is_closed(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        to = self._server
        if to.scheme == "unix":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            connection.settimeout(_TIMEOUT_S)
            try:
                connection.connect(to.address)
            except OSError:
                connection.close()
                raise
            return connection
        plain = socket.create_connection((to.address, to.port), _TIMEOUT_S)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=to.address)
        except OSError:
            plain.close()
            raise


class _Sent(NamedTuple):
    """Messages of a batch that were taken; of these `too_large` were dropped."""

    taken: int
    too_large: int
    error: OSError | None = None


def _datagrams(connection: socket.socket, messages: Sequence[bytes]) -> _Sent:
    """Send each message as a datagram, as many as the socket takes. Raises OSError if it takes none."""
    too_large = 0
    for number, message in enumerate(messages):
        try:
            connection.send(message)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:  # it can never be sent
                too_large += 1
            elif number:
                return _Sent(number, too_large, error)
            else:
                raise
    return _Sent(len(messages), too_large)


def _is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed a stream; a syslog server sends nothing else."""
    if connection.type != socket.SOCK_STREAM:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def _context(to: Server) -> ssl.SSLContext:
    import ssl  # most agents send nothing over TLS, and start faster without

    try:
        return ssl.create_default_context(cafile=to.ca)
    except OSError as error:
        raise UsageError(f"cannot read certificates from {to.ca}: {error}", hint="see --syslog-ca") from error
