"""The SSH connection to a guest, against a paramiko server in this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import paramiko
import pytest

from harness.guest import ssh
from harness.guest.base import GuestLostError, GuestTimeoutError
from harness.guest.ssh import SshChannel, SshGuest
from harness.host import deadlines


class _Deaf(paramiko.SubsystemHandler):
    """An SFTP server that reads requests and does not answer until the test ends."""

    let_go = threading.Event()

    def start_subsystem(self, name: str, transport: paramiko.Transport, channel: paramiko.Channel) -> None:
        self.let_go.wait()


class _Server(paramiko.ServerInterface):
    """An SSH server that accepts every user; `stops_at` names the step at which it stops to answer."""

    stops_at = ""
    session: paramiko.Channel  # of the newest command

    def check_auth_none(self, username: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if self.stops_at == "open":
            _Deaf.let_go.wait()
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        if self.stops_at == "run":
            _Deaf.let_go.wait()
        _Server.session = channel
        return True


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> Iterator[SshGuest]:
    """A guest that never answers SFTP requests."""
    monkeypatch.setattr(deadlines, "UPLOAD_S", 0.2)
    _Deaf.let_go.clear()
    near, far = socket.socketpair()
    server = paramiko.Transport(far)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.set_subsystem_handler("sftp", _Deaf)
    server.start_server(event=threading.Event(), server=_Server())
    client = paramiko.Transport(near)
    client.start_client(timeout=10)
    client.auth_none("root")
    try:
        yield SshGuest(client)
    finally:
        _Deaf.let_go.set()
        for end in (client, server):
            end.close()
            end.join()
        near.close()
        far.close()


def test_a_guest_that_stops_in_a_copy_times_out(deaf: SshGuest) -> None:
    """Copying a file has a deadline, so a guest that no longer answers does not block the run."""
    with pytest.raises(GuestTimeoutError, match="cannot write /tmp/file: no answer in time"):
        deaf.put_bytes(b"bytes", "/tmp/file")


@pytest.mark.parametrize("moment", ["open", "run", "end"])
def test_a_guest_that_stops_in_a_command_times_out(
    deaf: SshGuest, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The caller's deadline holds for the session, the command and its end."""
    monkeypatch.setattr(_Server, "stops_at", moment)
    with pytest.raises(GuestTimeoutError):
        deaf.run(["true"], timeout_s=0.5)


def test_a_connection_that_ends_is_not_a_program_that_ends(deaf: SshGuest) -> None:
    """A lost connection is another error than a program that ended."""
    channel = deaf.open_channel(["cat"])
    deaf.close()
    with pytest.raises(GuestLostError, match="cat: the connection ended"):
        channel.readline(5)


def _closed(channel: SshChannel) -> SshChannel:
    """Wait until the guest's end of the session is known here."""
    deadline = time.monotonic() + 10
    while not channel._session.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    return channel


def test_a_program_that_ended_before_a_write_is_no_lost_guest(deaf: SshGuest) -> None:
    """The next lines are what it printed, and then its end."""
    channel = deaf.open_channel(["cat"])
    _Server.session.sendall(b"last words\n")
    _Server.session.close()
    _closed(channel).write(b"to nobody\n")
    assert channel.readline(5) == b"last words"
    assert channel.readline(5) is None


@pytest.mark.parametrize("moment", ["first", "later"])
def test_a_write_to_a_lost_guest_is_an_error(deaf: SshGuest, moment: str) -> None:
    """Also while paramiko has closed the sessions and still calls the connection active."""
    channel = deaf.open_channel(["cat"])
    if moment == "first":
        cast(Any, channel._session)._unlink()
        assert deaf._transport.is_active()
    else:
        deaf.close()
    with pytest.raises(GuestLostError, match="cannot write to cat"):
        _closed(channel).write(b"request\n")
    with pytest.raises(GuestLostError, match="cat: the connection ended"):
        channel.readline(5)


class _Gone:
    """A session of a connection that has just ended."""

    def __init__(self) -> None:
        self.closing = threading.Event()

    def close(self) -> None:
        self.closing.set()
        raise EOFError

    def ask(self) -> None:
        """Raise the error of a session that ends meanwhile."""
        assert self.closing.wait(10)
        raise paramiko.SSHException


def test_a_session_of_a_lost_connection_can_be_closed() -> None:
    """The thread that closes the session does not fail."""
    session = _Gone()
    with pytest.raises(TimeoutError), ssh._closed_at(0.0, cast(paramiko.Channel, session)):
        session.ask()
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join()
