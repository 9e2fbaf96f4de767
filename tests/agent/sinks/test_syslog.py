"""Syslog over each transport, with servers on this host and without one."""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import UsageError
from agent.sinks.backoff import Backoff
from agent.sinks.base import Match
from agent.sinks.syslog import Server, SyslogSink, server
from tests.agent.sinks.conftest import match, matches

# RFC 5424, section 6: the header, then structured data, then the message.
FORM = re.compile(
    rb"<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ([!-~]{1,255}) fim-agent (\d{1,128}) "
    rb"([!-~]{1,32}) - (.*)",
    re.DOTALL,
)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def sink(to: Server, clock: Clock | None = None, host: str = "h") -> SyslogSink:
    return SyslogSink(to, host, backoff=Backoff(random=lambda: 0.0), clock=clock or Clock())


def frames(data: bytes) -> Iterator[bytes]:
    """Split a stream by the lengths before its messages."""
    while data:
        length, _, data = data.partition(b" ")
        yield data[: int(length)]
        data = data[int(length) :]


def receive(
    listener: socket.socket, context: ssl.SSLContext | None, received: list[bytes]
) -> threading.Thread:
    """Accept one connection in a thread, and read it to its end."""

    def serve() -> None:
        connection, _ = listener.accept()
        whole = context.wrap_socket(connection, server_side=True) if context else connection
        with whole:
            while data := whole.recv(65536):
                received.append(data)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


def test_a_message_on_a_unix_socket(tmp_path: Path) -> None:
    """One datagram a message, in the form of the RFC; a host name cannot break it."""
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        made = sink(server(f"unix:{path}"), host="a b\n<1>é")
        assert made.write([match(1), Match("agent.loss", "agent", 5, b"{}")]) == 2
        first, second = (FORM.fullmatch(log.recv(1000)) for _ in range(2))
        made.close()
    assert first
    assert first.groups() == (b"85", b"a_b_<1>_", str(os.getpid()).encode(), b"open", b'{"n":1}')
    assert second
    assert second.groups()[::3] == (b"84", b"agent")


def test_messages_on_tcp_have_their_length(listener: socket.socket) -> None:
    received: list[bytes] = []
    thread = receive(listener, None, received)
    made = sink(Server("tcp", *listener.getsockname()))
    assert made.write(matches(3)) == 3
    made.close()
    thread.join()
    bodies = [found[5] for each in frames(b"".join(received)) if (found := FORM.fullmatch(each))]
    assert bodies == [b'{"n":%d}' % number for number in range(3)]


def test_a_closed_connection_is_not_written_to(listener: socket.socket) -> None:
    """After a restart of the server the match is sent over a new connection."""
    first: list[bytes] = []
    made = sink(Server("tcp", *listener.getsockname()))

    def accept_one() -> None:
        with listener.accept()[0] as connection:
            connection.recv(1000)

    accepting = threading.Thread(target=accept_one)
    accepting.start()
    made.write([match(1)])
    accepting.join()
    assert made._socket is not None
    made._socket.settimeout(10)
    assert made._socket.recv(1) == b""  # the end of the connection has arrived
    thread = receive(listener, None, first)
    assert made.write([match(2)]) == 1
    made.close()
    thread.join()
    assert b'{"n":2}' in b"".join(first)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, file = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", file, "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return file, key


def test_tls(listener: socket.socket, certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    received: list[bytes] = []
    thread = receive(listener, context, received)
    made = sink(Server("tls", "localhost", listener.getsockname()[1], certificate[0]))
    assert made.write([match(4)]) == 1
    made.close()
    thread.join()
    assert b"".join(received).endswith(b'{"n":4}')


def test_a_certificate_that_is_not_trusted_gets_nothing(
    listener: socket.socket, certificate: tuple[Path, Path]
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    refused: list[OSError] = []

    def serve() -> None:
        try:
            context.wrap_socket(listener.accept()[0], server_side=True)
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    made = sink(Server("tls", "localhost", listener.getsockname()[1]))
    assert made.write([match()]) == 0
    thread.join()
    assert "certificate verify failed" in made.last_error
    assert refused


@pytest.mark.parametrize("url", ["unix:/nowhere/log", "tcp://127.0.0.1:1"])
def test_without_a_server_matches_wait(url: str) -> None:
    """They stay in the dispatcher's queue; the time between attempts grows."""
    clock = Clock()
    made = sink(server(url), clock)
    assert made.write([match()]) == 0
    assert (made.counters.errors, made.retry_s) == (1, 1.0)
    assert made.write([match()]) == 0
    assert made.counters.errors == 1
    clock.now = 1.0
    assert made.write([match()]) == 0
    assert (made.counters.errors, made.retry_s) == (2, 2.0)
    made.close()


def test_a_match_larger_than_a_datagram_is_dropped_and_counted(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(path)
        made = sink(server(f"unix:{path}"))
        assert made.write([Match("r", "open", 1, b"x" * (8 << 20)), match(1)]) == 2
        assert log.recv(1000).endswith(b'{"n":1}')
        made.close()
    assert (made.counters.dropped, made.counters.delivered) == (1, 1)


@pytest.mark.parametrize(
    "url",
    ["", "logs", "udp://h:1", "tcp://h", "tcp://:5", "tcp://h:x", "unix:log", "tls://h:1/x", "tcp://u@h:1"],
)
def test_invalid_servers(url: str) -> None:
    with pytest.raises(UsageError, match="invalid syslog server"):
        server(url)


def test_servers(tmp_path: Path) -> None:
    assert server("tls://[::1]") == Server("tls", "::1", 6514)
    assert server("unix:///dev/log") == server("unix:/dev/log") == Server("unix", "/dev/log")
    with pytest.raises(UsageError, match="cannot read certificates"):
        sink(server("tls://h", tmp_path / "none"))


def test_without_tls_its_library_is_not_loaded() -> None:
    """Loading it would make each start slower."""
    code = (
        "import sys\n"
        "import agent.service.start, agent.sinks.journald\n"
        "from agent.sinks.syslog import SyslogSink, server\n"
        "SyslogSink(server('tcp://h:1'), 'h')\n"
        "print('ssl' in sys.modules)\n"
        "SyslogSink(server('tls://h'), 'h')\n"
        "print('ssl' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
