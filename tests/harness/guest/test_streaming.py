"""A command's output streams: the marks that end them are found wherever the data is split."""

from __future__ import annotations

import itertools
import math
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import cast

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.guest import streaming
from harness.guest.base import STDERR, STDOUT, GuestLostError, GuestTimeoutError
from harness.guest.ssh import SshGuest

MARK = "0123456789abcdef"


class _Server(paramiko.ServerInterface):
    """An SSH server that runs commands with this host's shell, as sshd does in a guest."""

    def check_auth_none(self, username: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=_serve, args=(channel, command), daemon=True).start()
        return True


def _serve(channel: paramiko.Channel, command: bytes) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(["bash", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdin
        assert child.stdout
        assert child.stderr
        out, err = (
            threading.Thread(target=_copy, args=(source, send), daemon=True)
            for source, send in ((child.stdout, channel.sendall), (child.stderr, channel.sendall_stderr))
        )
        out.start()
        err.start()
        while data := channel.recv(4096):
            child.stdin.write(data)
            child.stdin.flush()
        child.stdin.close()
        # As sshd does: the status goes out while processes in the background still hold the streams.
        if (status := child.wait()) >= 0:
            channel.send_exit_status(status)  # paramiko does not pass on the message about a signal
        out.join()
        err.join()
    channel.close()


def _copy(source: object, send: object) -> None:
    try:
        while data := os.read(source.fileno(), 4096):  # type: ignore[attr-defined]
            send(data)  # type: ignore[operator]
    except (OSError, EOFError, paramiko.SSHException):
        pass  # the client closed the session


@pytest.fixture(scope="module")
def guest() -> Iterator[SshGuest]:
    """A guest whose commands run on this host."""
    near, far = socket.socketpair()
    server = paramiko.Transport(far)
    server.add_server_key(paramiko.ECDSAKey.generate())
    server.start_server(event=threading.Event(), server=_Server())
    client = paramiko.Transport(near)
    client.start_client(timeout=10)
    client.auth_none("root")
    yield SshGuest(client)
    for end in (client, server):
        end.close()
        end.join()
    near.close()
    far.close()


def _stream(guest: SshGuest, *argv: str, stdin: int | None = None) -> tuple[int, bytes, bytes]:
    streams = {STDOUT: b"", STDERR: b""}

    def take(number: int, data: bytes) -> None:
        streams[number] += data

    return guest.stream(argv, take, stdin=stdin, timeout_s=60), streams[STDOUT], streams[STDERR]


def test_both_streams_arrive_whole(guest: SshGuest) -> None:
    """Neither stream is cut to its last 64 KiB."""
    status, out, err = _stream(guest, "sh", "-c", "seq 1 100000; seq 1 100000 >&2; exit 3")
    whole = b"".join(b"%d\n" % number for number in range(1, 100_001))
    assert (status, out == whole, err == whole) == (3, True, True)


def test_a_background_process_does_not_delay_the_end(guest: SshGuest) -> None:
    """It keeps both streams open, and the command ends all the same."""
    assert _stream(guest, "sh", "-c", "sleep 600 & echo hi; echo no >&2") == (0, b"hi\n", b"no\n")


def test_output_arrives_while_the_command_runs(guest: SshGuest) -> None:
    """The command continues only after its first line has arrived, so buffered output would block it."""
    reading, writing = os.pipe()

    def take(number: int, data: bytes) -> None:
        if b"first" in data:
            os.write(writing, b"second\n")
            os.close(writing)

    try:
        assert guest.stream(["sh", "-c", "echo first; cat >&2"], take, stdin=reading, timeout_s=60) == 0
    finally:
        os.close(reading)


def test_stdin_is_passed_on_to_its_end(guest: SshGuest) -> None:
    """`cat` ends at the end of its input."""
    reading, writing = os.pipe()
    os.write(writing, b"hi\n")
    os.close(writing)
    assert _stream(guest, "cat", stdin=reading) == (0, b"hi\n", b"")
    os.close(reading)


@pytest.mark.parametrize(("script", "status"), [("exit 77", 77), ("kill -9 $$", 137), ("kill -SEGV $$", 139)])
def test_a_signal_is_a_shell_s_status(guest: SshGuest, script: str, status: int) -> None:
    """The status is 128 plus the number of the signal."""
    assert _stream(guest, "sh", "-c", script)[0] == status


def test_exit_as_a_command_has_its_status(guest: SshGuest) -> None:
    """`exit` as the whole command ends only the command."""
    assert _stream(guest, "exit", "5")[0] == 5


def test_a_killed_shell_is_an_error(guest: SshGuest) -> None:
    """The error says that the shell ended and not the connection."""
    with pytest.raises(GuestLostError, match="the guest's shell was killed"):
        _stream(guest, "sh", "-c", "kill -9 $PPID")


def test_a_timeout_names_the_command(guest: SshGuest) -> None:
    """The error does not name the wrapper that runs the command."""
    with pytest.raises(GuestTimeoutError, match=r"^run\.sh: no answer in time"):
        guest.stream(["sh", "-c", "sleep 600"], lambda _number, _data: None, timeout_s=0.2, name="run.sh")


def test_an_error_of_the_reader_ends_the_command(guest: SshGuest) -> None:
    """A closed pipe of this process ends the command, and the error is raised."""

    def take(number: int, data: bytes) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        guest.stream(["yes"], take, timeout_s=60)


def _cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


@given(st.binary(max_size=80), st.integers(0, 255), st.lists(st.integers(0, 200), max_size=8))
def test_a_mark_is_found_wherever_it_is_cut(own: bytes, status: int, places: list[int]) -> None:
    """Data before the mark is the command's output; data behind it is ignored."""
    data = own + f"\x1e{MARK} {status}\x1e".encode() + b"of another"
    end = streaming._End(MARK)
    assert b"".join(end.before(piece) for piece in _cut(data, places)) == own
    assert end.status == status


@given(
    st.lists(st.sampled_from([b"\x1e", b"\x1e0123", f"\x1e{MARK} ".encode(), b"x", b"7", b"\n"]), max_size=30)
)
def test_an_imitated_mark_is_output(pieces: list[bytes]) -> None:
    """No output is lost, and memory stays bounded."""
    end = streaming._End(MARK)
    whole = b"".join(pieces)
    passed = b"".join(end.before(piece) for piece in pieces)
    if end.status is None:
        assert passed + end.held == whole
        assert len(end.held) < 64


class _Ended:
    """A session whose connection ended in the middle of a command."""

    eof_received = False
    closed = True
    transport = None
    status_event = threading.Event()

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.left = [b"before\n"]

    def fileno(self) -> int:
        return self.reading

    def recv_ready(self) -> bool:
        return bool(self.left)

    def recv(self, _size: int) -> bytes:
        return self.left.pop()

    def recv_stderr_ready(self) -> bool:
        return False

    recv_stderr = recv


def test_output_before_a_lost_connection_is_returned() -> None:
    """The output before a panic is evidence."""
    seen: list[bytes] = []
    session = _Ended()
    reader = streaming.Reader(cast(paramiko.Channel, session), MARK, "sh")
    with pytest.raises(GuestLostError, match="the connection ended"):
        reader.read(lambda _number, data: seen.append(data), time.monotonic() + math.inf)
    assert seen == [b"before\n"]
    os.close(session.reading)
    os.close(session.writing)
