"""The FUSE of the scenarios stale.*: what its names lead to, and which of its answers is ESTALE."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent.selftest.evidence import CannotTellError
from agent.selftest.stale import Code, Server, served
from agent.selftest.workload import Workload

ROOT = 1  # FUSE_ROOT_ID
MODE = 40 + 60  # offset of the mode in fuse_entry_out


class Asker:
    """The kernel's side of a server, without a kernel."""

    def __init__(self, device: socket.socket, server: Server) -> None:
        self._device = device
        self.server = server

    def ask(self, code: int, node: int, body: bytes = b"") -> tuple[int, bytes]:
        """Send a request and return the error and the body of its answer."""
        head = struct.pack("=IIQQIIIHH", 40 + len(body), code, 7, node, 0, 0, 0, 0, 0)
        self._device.send(head + body)
        answer = self._device.recv(1 << 12)
        length, error, unique = struct.unpack_from("=IiQ", answer)
        assert (length, unique) == (len(answer), 7)
        return -error, answer[16:]

    def lookup(self, name: bytes, folder: int = ROOT) -> tuple[int, int]:
        """Return the node of a name and its type."""
        error, entry = self.ask(Code.LOOKUP, folder, name + b"\0")
        assert not error
        return struct.unpack_from("=Q", entry)[0], stat.S_IFMT(struct.unpack_from("=I", entry, MODE)[0])

    def target(self) -> bytes:
        """Return what the symbolic link leads to."""
        return self.ask(Code.READLINK, self.lookup(b"link")[0])[1]


@pytest.fixture
def asker() -> Iterator[Asker]:
    device, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end, wake = os.pipe()
    server = Server(device.fileno(), "/real")
    thread = threading.Thread(target=server.serve, args=(end,))
    thread.start()
    with closing(device), closing(ours):
        yield Asker(ours, server)
        os.write(wake, b"\n")
        thread.join()
    os.close(end)
    os.close(wake)


def test_names_lead_elsewhere_after_an_answer_of_estale(asker: Asker) -> None:
    """The link to a real file, and the directory, which is a link to a real one then."""
    asker.server.arm()
    assert (asker.target(), asker.lookup(b"d")[1]) == (b"decoy", stat.S_IFDIR)
    assert asker.ask(Code.OPEN, asker.lookup(b"decoy")[0]) == (errno.ESTALE, b"")
    assert (asker.target(), asker.lookup(b"d")[1]) == (b"/real/x", stat.S_IFLNK)


def test_only_the_next_request_is_stale(asker: Asker) -> None:
    """Others of the same kind are answered."""
    asker.server.arm()
    node = asker.lookup(b"decoy")[0]
    assert [asker.ask(Code.OPEN, node)[0] for _ in range(2)] == [errno.ESTALE, 0]
    assert asker.server.stale == 1


def test_only_the_chosen_request_is_stale(asker: Asker) -> None:
    """A change, and not the open before it."""
    asker.server.arm(Code.SETATTR)
    node = asker.lookup(b"decoy")[0]
    assert [asker.ask(code, node)[0] for code in (Code.OPEN, Code.SETATTR)] == [0, errno.ESTALE]


def test_only_lookups_in_the_directory_are_stale(asker: Asker) -> None:
    """The lookup of the directory itself would be repeated before the operation sees its object."""
    asker.server.arm(Code.LOOKUP)
    node = asker.lookup(b"d")[0]
    assert asker.ask(Code.LOOKUP, node, b"x\0")[0] == errno.ESTALE


def test_a_calm_server_answers_everything(asker: Asker) -> None:
    """From its start on, and after an answer of ESTALE."""
    node = asker.lookup(b"decoy")[0]
    assert asker.ask(Code.OPEN, node)[0] == 0
    asker.server.arm()
    asker.ask(Code.OPEN, node)
    asker.server.calm()
    assert (asker.ask(Code.OPEN, node)[0], asker.target()) == (0, b"decoy")


@pytest.mark.parametrize(("code", "error"), [(99, errno.ENOSYS), (Code.LOOKUP, errno.ENOENT)])
def test_what_the_server_does_not_know_is_refused(code: int, error: int, asker: Asker) -> None:
    """An unknown request, and an unknown name."""
    assert asker.ask(code, ROOT, b"unknown\0")[0] == error


@pytest.mark.parametrize(
    ("line", "left"),
    [
        ("unlink {}/d/x", []),
        ("rename {}/d/x {}/d/y", ["y"]),
        ("link {}/d/x {}/d/y", ["x", "y"]),
        ("mkdir {}/d/folder 0700", ["folder", "x"]),
        ("open {}/link O_WRONLY|O_TRUNC", ["x"]),
    ],
)
def test_a_kernel_goes_on_with_the_second_object(
    line: str, left: list[str], tmp_path: Path, workload: Workload
) -> None:
    """Each call does its work in the real directory after one answer of ESTALE."""
    real = tmp_path / "real"
    real.mkdir()
    (real / "x").write_text("before")
    try:
        with served(tmp_path / "fs", str(real)) as server:
            server.arm(*([Code.SETATTR] if "O_TRUNC" in line else []))
            outcome = workload.run(line.replace("{}", f"{tmp_path}/fs") + "\n")
    except CannotTellError as error:
        pytest.skip(f"this host cannot mount it: {error}")
    assert (server.stale, dict(outcome.failures)) == (1, {})
    assert sorted(path.name for path in real.iterdir()) == left
    assert "O_TRUNC" not in line or not (real / "x").read_text()
