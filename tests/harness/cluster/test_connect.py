"""The error when no scheduler answers, and what a program that is none may answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from distributed import Security

from harness.cluster import connect
from harness.errors import InfrastructureError
from harness.host import deadlines


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
