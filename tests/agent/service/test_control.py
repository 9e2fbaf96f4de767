"""The control socket: one word in, one line of JSON out, and only for root and the agent's user."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import AgentError
from agent.service import control
from agent.service.control import Arguments, ControlServer, Mailbox, Reply, request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "control.sock"


class Loop:
    """An event loop that only answers requests."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        handlers = {"status": lambda _: {"uptime_s": 1}, "reload": _failed_reload, "echo": _echo}
        while not self._end.wait(0.001):
            self._mailbox.answer(handlers)

    def close(self) -> None:
        self._end.set()
        self._thread.join()


def _echo(arguments: Arguments) -> Reply:
    return dict(arguments)


def _failed_reload(_: Arguments) -> Reply:
    return {"error": "bad rule", "hint": "fix it", "detail": "line 3"}


@pytest.fixture
def server(path: Path) -> Iterator[ControlServer]:
    mailbox = Mailbox()
    loop, server = Loop(mailbox), ControlServer(path, mailbox)
    yield server
    server.close()
    loop.close()


@pytest.mark.usefixtures("server")
class TestAsking:
    def test_an_answer(self, path: Path) -> None:
        assert request(path, "status") == {"uptime_s": 1}

    def test_an_answer_that_is_an_error(self, path: Path) -> None:
        with pytest.raises(AgentError, match="bad rule") as raised:
            request(path, "reload")
        assert (raised.value.hint, raised.value.detail) == ("fix it", "line 3")

    def test_an_unknown_word(self, path: Path) -> None:
        with pytest.raises(AgentError, match=r"unknown request .*; known: status, reload, echo"):
            request(path, "dance")

    def test_arguments_and_the_requesting_user(self, path: Path) -> None:
        """The user is the one of the socket, whatever the request claims."""
        answer = request(path, "echo", {"a": "\n\u00e4", "uid": 5})
        assert answer == {"a": "\n\u00e4", "uid": os.geteuid()}

    @pytest.mark.parametrize(
        "line", [b"echo [1]\n", b"echo {\n", b"echo 5\n", b"echo \xff\n", b"echo " + b"[" * 9000 + b"\n"]
    )
    def test_a_request_that_is_no_object(self, path: Path, line: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(line)
            assert b"not one word and a JSON object" in client.recv(1000)

    def test_only_the_owner_can_connect(self, path: Path) -> None:
        assert path.stat().st_mode & 0o777 == 0o600

    def test_others_get_no_answer(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control, "_is_trusted", lambda _: False)
        with pytest.raises(AgentError, match="no answer"):
            request(path, "status")

    def test_a_silent_client_does_not_end_the_server(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        assert request(path, "status") == {"uptime_s": 1}

    def test_a_second_agent_is_an_error(self, path: Path) -> None:
        with pytest.raises(AgentError, match="another agent listens"):
            ControlServer(path, Mailbox())


def test_the_socket_of_a_killed_agent_is_replaced(path: Path, server: ControlServer) -> None:
    server.close()
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    second = ControlServer(path, Mailbox())
    second.close()
    assert not path.exists()


def test_no_agent(path: Path) -> None:
    with pytest.raises(AgentError, match="no answer") as raised:
        request(path, "status")
    assert "start the agent" in raised.value.hint


def test_a_busy_agent() -> None:
    assert Mailbox().ask("status", timeout_s=0.0) == {
        "error": "the agent did not answer within 0 s; it is busy"
    }
