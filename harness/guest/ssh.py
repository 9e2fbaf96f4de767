"""Implements `base.Guest` over SSH with paramiko.

Each machine has one TCP connection for all commands: a handshake takes a second without acceleration.
The guest's host key is made before it boots; a server with any other key is refused.
"""

from __future__ import annotations

import io
import logging
import math
import select
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

import paramiko

from harness.guest import streaming
from harness.guest.base import (
    MAX_FILE,
    STDERR,
    STDOUT,
    Completed,
    Endpoint,
    GuestFileError,
    GuestLostError,
    GuestTimeoutError,
    Output,
    TooMuchOutputError,
)
from harness.guest.keys import USER
from harness.guest.streaming import guest_errors
from harness.host import deadlines

# Our errors report a connection that ends; paramiko's log would report it again on stderr.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_CHUNK = 1 << 15
_PIECE = 1 << 19
_MAX_LINE = 8 << 20
_STDERR_KEPT = 1 << 16
_MAX_OUTPUT = 16 << 20

# Measured in an emulated guest: a fifth faster than AES-GCM. images/sshd_config offers no other cipher.
_CIPHERS = ("aes128-ctr",)
_MACS = ("hmac-sha2-256-etm@openssh.com",)
_KEX = ("curve25519-sha256@libssh.org",)
_HOST_KEYS = ("ssh-ed25519",)


def _write_in_pieces(file: paramiko.SFTPFile, data: bytes) -> None:
    """Write, and wait for the guest after each piece, not after each request.

    If an emulated guest has received megabytes that it has not read yet, it takes four times as long.
    """
    file.set_pipelined(True)
    for start in range(0, len(data), _PIECE):
        file.write(data[start : start + _PIECE])
        written = file.stat().st_size
        if written != min(start + _PIECE, len(data)):
            raise OSError(f"{written} bytes arrived of {len(data)}")


@contextmanager
def _closed_at(deadline: float, session: paramiko.Channel) -> Iterator[None]:
    """Close the session if the block is not done by `deadline`: paramiko waits for an answer for ever."""
    late = threading.Event()

    def end() -> None:
        late.set()
        # The connection may have ended at the same moment.
        with suppress(EOFError, OSError, paramiko.SSHException):
            session.close()

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), end)
    timer.start()
    try:
        yield
    except paramiko.SSHException as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()


def connect(endpoint: Endpoint, timeout_s: float) -> SshGuest:
    """Open a connection, check its host key and authenticate. Raises GuestLostError, GuestTimeoutError."""
    with guest_errors("cannot connect"):
        sock = socket.create_connection((endpoint.host, endpoint.port), timeout_s)
        transport = _transport(sock, timeout_s)
        try:
            transport.start_client(timeout=timeout_s)
            _check_host_key(transport, endpoint)
            transport.auth_publickey(USER, _private_key(endpoint))
        except BaseException:
            transport.close()
            raise
    return SshGuest(transport)


def _transport(sock: socket.socket, timeout_s: float) -> paramiko.Transport:
    transport = paramiko.Transport(sock)
    options = transport.get_security_options()
    options.ciphers = _CIPHERS
    options.digests = _MACS
    options.kex = _KEX
    options.key_types = _HOST_KEYS
    # Every step of a handshake is slow in an emulated guest, so replace paramiko's own deadlines.
    transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = timeout_s
    return transport


def _check_host_key(transport: paramiko.Transport, endpoint: Endpoint) -> None:
    key = transport.get_remote_server_key()
    if f"{key.get_name()} {key.get_base64()}" != endpoint.keys.host.public:
        raise paramiko.SSHException("the host key is not the one that was made for this machine")


def _private_key(endpoint: Endpoint) -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(endpoint.keys.client.private.decode()))


class SshGuest:
    """A `base.Guest` over one SSH connection. Safe to use from several threads."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._transport = transport
        self._sftp: paramiko.SFTPClient | None = None
        self._lock = threading.Lock()

    def run(self, argv: Sequence[str], timeout_s: float = 60) -> Completed:
        """Run a command to its end; see `base.Guest`."""
        streams = {STDOUT: bytearray(), STDERR: bytearray()}

        def collect(number: int, data: bytes) -> None:
            streams[number] += data
            if len(streams[number]) > _MAX_OUTPUT:
                raise TooMuchOutputError(f"{shlex.join(argv)} printed more than {_MAX_OUTPUT >> 20} MiB")

        status = self.stream(argv, collect, timeout_s=timeout_s)
        return Completed(status, bytes(streams[STDOUT]), bytes(streams[STDERR]))

    def stream(
        self,
        argv: Sequence[str],
        output: Output,
        *,
        timeout_s: float = math.inf,
        stdin: int | None = None,
        name: str = "",
    ) -> int:
        """Run a command and pass on its output as it arrives; see `base.Guest`."""
        command, name = shlex.join(argv), name or shlex.join(argv)
        deadline = time.monotonic() + timeout_s
        mark = streaming.new_mark()
        session = self._execute(streaming.marked(command, mark), name, min(timeout_s, deadlines.SESSION_S))
        try:
            streaming.feed(session, stdin, name)
            return streaming.Reader(session, mark, name).read(output, deadline)
        finally:
            session.close()

    def open_channel(self, argv: Sequence[str]) -> SshChannel:
        """Start a program; see `base.Guest`."""
        command = shlex.join(argv)
        # With a command after it the shell does not exec the program, and turns a signal into a status:
        # paramiko does not pass on SSH's own message about a signal.
        return SshChannel(self._execute(f"{command}; exit", command, deadlines.SESSION_S), command)

    def _execute(self, line: str, name: str, timeout_s: float) -> paramiko.Channel:
        """Open a session in which the guest's shell runs `line`."""
        deadline = time.monotonic() + timeout_s
        with guest_errors(f"cannot run {name}"):
            session = self._session(timeout_s)
            with _closed_at(deadline, session):
                session.exec_command(line)
        return session

    def _session(self, timeout_s: float) -> paramiko.Channel:
        try:
            return self._transport.open_session(timeout=timeout_s)
        except paramiko.SSHException as error:
            # paramiko raises the same error for a missing answer and for a connection that ended.
            if self._transport.is_active() and not isinstance(error, paramiko.ChannelException):
                raise TimeoutError from error
            raise

    def put(self, local: Path, remote: str, mode: int = 0o644) -> None:
        """Copy a file into the guest; see `base.Guest`."""
        self.put_bytes(local.read_bytes(), remote, mode)

    def put_bytes(self, data: bytes, remote: str, mode: int = 0o644) -> None:
        """Write a file in the guest; see `base.Guest`."""
        partial = f"{remote}.partial"
        with self._files(f"cannot write {remote}") as sftp:
            with sftp.open(partial, "wb") as file:
                _write_in_pieces(file, data)
            sftp.chmod(partial, mode)
            sftp.posix_rename(partial, remote)

    def get(self, remote: str, local: Path) -> None:
        """Copy a file out of the guest; see `base.Guest`."""
        partial = local.with_name(f"{local.name}.partial")
        try:
            with self._files(f"cannot read {remote}") as sftp, sftp.open(remote, "rb") as source:
                _copy(remote, cast("BinaryIO", source), partial)
            partial.replace(local)
        finally:
            partial.unlink(missing_ok=True)

    def ping(self, timeout_s: float = 30) -> None:
        """Run a real command; see `base.Guest`."""
        completed = self.run(["true"], timeout_s)
        if completed.status != 0:
            raise GuestLostError(f"`true` ended with status {completed.status}")

    def close(self) -> None:
        """Close the connection; may be called again."""
        self._transport.close()

    @contextmanager
    def _files(self, what: str) -> Iterator[paramiko.SFTPClient]:
        """Lend the SFTP client to one caller; errors of the guest's file system become GuestFileError."""
        with self._lock, guest_errors(what):
            try:
                yield self._open_sftp()
            except TimeoutError:
                self._sftp = None  # a late answer would be taken for the answer to the next request
                raise
            except (FileNotFoundError, ConnectionError):
                raise
            except OSError as error:
                if not self._transport.is_active():
                    raise
                raise GuestFileError(f"{what}: {error}") from error

    def _open_sftp(self) -> paramiko.SFTPClient:
        if self._sftp is None:
            session = self._transport.open_session(timeout=deadlines.SESSION_S)
            session.settimeout(deadlines.UPLOAD_S)
            session.invoke_subsystem("sftp")
            self._sftp = paramiko.SFTPClient(session)
        return self._sftp


class SshChannel:
    """A `base.Channel` over one SSH session."""

    def __init__(self, session: paramiko.Channel, command: str) -> None:
        self._session = session
        self._command = command
        self._buffer = bytearray()
        self._stderr = bytearray()
        self._poll = select.poll()
        self._poll.register(session.fileno(), select.POLLIN)

    def readline(self, timeout_s: float) -> bytes | None:
        """Return the next line; see `base.Channel`."""
        deadline = time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _MAX_LINE:
                raise TooMuchOutputError(f"{self._command} printed a line over {_MAX_LINE} bytes")
            chunk = self._next_chunk(deadline)
            if not chunk:
                return self._last_line()
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def write(self, data: bytes) -> None:
        """Write to its stdin; see `base.Channel`."""
        with guest_errors(f"cannot write to {self._command}"):
            try:
                self._session.sendall(data)
            except OSError:
                if not self._program_ended:
                    raise

    def stderr_tail(self) -> bytes:
        """Return the last bytes of its stderr; see `base.Channel`."""
        self._drain_stderr()
        return bytes(self._stderr)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end and return its status; see `base.Channel`."""
        if not self._session.status_event.wait(max(timeout_s, 0)):
            raise GuestTimeoutError(f"{self._command} did not end in time")
        status = self._session.recv_exit_status()
        if status < 0:
            raise GuestLostError(f"{self._command}: the connection ended before the program")
        return status

    def close(self) -> None:
        """Close the session; may be called again."""
        self._session.close()

    def _last_line(self) -> bytes | None:
        line = bytes(self._buffer)
        self._buffer.clear()
        return line or None

    def _next_chunk(self, deadline: float) -> bytes:
        session = self._session
        while True:
            self._drain_stderr()
            # Check for the end before checking for data, so that data before the end is not lost.
            ended = session.eof_received or session.closed
            if session.recv_ready():
                return session.recv(_CHUNK)
            if ended and not self._program_ended:
                raise GuestLostError(f"{self._command}: the connection ended")
            if ended:
                return b""
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._poll.poll(remaining * 1000):
                raise GuestTimeoutError(f"{self._command}: no answer in time")

    @property
    def _program_ended(self) -> bool:
        """Whether the program, and not the connection, ended a session that is closed."""
        # sshd sends the end of the output before it closes a session. paramiko closes the sessions of a lost
        # connection while it still calls the connection active.
        return bool(self._session.eof_received)

    def _drain_stderr(self) -> None:
        # stderr shares its window with stdout: if nothing reads it, the program blocks.
        while self._session.recv_stderr_ready():
            self._stderr += self._session.recv_stderr(_CHUNK)
        del self._stderr[:-_STDERR_KEPT]


def _copy(remote: str, source: BinaryIO, target: Path) -> None:
    """Copy until the end of the file, whatever size the guest reports; raises GuestFileError at the limit."""
    left = MAX_FILE
    with target.open("wb") as file:
        while data := source.read(_CHUNK):
            left -= len(data)
            if left < 0:
                raise GuestFileError(f"{remote} is larger than {MAX_FILE >> 20} MiB")
            file.write(data)
