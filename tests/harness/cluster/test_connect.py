"""The error when no scheduler answers, and what a program that is none may answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from distributed import Client, Security

from harness.cluster import connect
from harness.cluster.connect import Spec
from harness.cluster.plugin import HarnessPlugin
from harness.errors import InfrastructureError
from harness.host import deadlines
from tests.harness.cluster.place import Place


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([OSError("Timed out"), ConnectionRefusedError(111, "Connection refused")], "refused"),
        ([OSError("Timed out"), TimeoutError(), asyncio.CancelledError()], "Timed out"),
        ([OSError()], "OSError"),
    ],
)
def test_the_cause_of_an_error(errors: list[BaseException], message: str) -> None:
    """The innermost message of the chain; the name of the error if none has a message."""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    assert message in connect.cause(errors[0])


@contextlib.contextmanager
def listening(answer: bytes, *, closes: bool) -> Iterator[int]:
    """Yield the port of a program that answers each connection so, and closes it at once or at the end."""
    accepted: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted.append(server.accept()[0])
                accepted[-1].sendall(answer)
                if closes:
                    accepted[-1].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)  # ends `accept`
        thread.join()
    for one in accepted:
        one.close()


@pytest.mark.parametrize(
    ("answer", "closes", "message"),
    [
        (b"", False, "the connection was accepted, and no answer came"),
        (b"", True, ""),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n", True, ""),
        (b"\xff" * 64, False, "the answer is not that of Dask: "),
        (b"\x08" + b"\0" * 7 + b"\xc1" * 8, False, "the answer is not that of Dask"),
        (
            (1).to_bytes(8, "little") + (1 << 60).to_bytes(8, "little"),
            False,
            "the answer is not that of Dask",
        ),
    ],
)
def test_a_program_that_is_no_scheduler(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, closes: bool, message: str
) -> None:
    """Dask itself would wait for ever, or fail with any error of its decoder."""
    if "no answer" in message:
        monkeypatch.setattr(deadlines, "HANDSHAKE_S", 1.0)
    with listening(answer, closes=closes) as port:
        address = f"tcp://127.0.0.1:{port}"
        with pytest.raises(InfrastructureError, match="no scheduler answers at tcp://") as raised:
            asyncio.run(connect.reach(address, Security(), "client"))
    assert message in raised.value.message
    assert "\n" not in raised.value.message


QUESTIONS: dict[str, Callable[[Client], object]] = {
    "workers": connect.workers,
    "versions": connect._refuse_other_versions,
    "plugin": lambda client: connect._register(client, HarnessPlugin("none")),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_scheduler_that_hangs_after_a_client_connected(
    place: Place, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    """Each call before the run begins ends with an error; Dask itself would wait for ever."""
    monkeypatch.setattr(deadlines, "SCHEDULER_S", 1.0)
    monkeypatch.setattr(deadlines, "JOIN_S", 1.0)
    scheduler = place.scheduler()
    address = json.loads(place.scheduler_file.read_text())["address"]
    with connect._remote(Spec(address=address, keys=place.keys)) as client:
        assert connect.workers(client) == 0
        scheduler.send_signal(signal.SIGSTOP)
        with pytest.raises(InfrastructureError, match="the scheduler of the cluster does not answer"):
            QUESTIONS[question](client)
        scheduler.send_signal(signal.SIGCONT)
