"""The conversation with the self-test server: only the right answer is an answer."""

from __future__ import annotations

import pytest

from agent.selftest import protocol
from harness.errors import RefusedError
from harness.guest.base import GuestLostError, GuestTimeoutError, TooMuchOutputError
from harness.guest.selftest import SERVE, BrokenServerError, SelftestClient
from tests.harness.guest.fake import FakeChannel, FakeGuest

HELLO = protocol.encode(protocol.Hello("0.1.0", 412))


def client(*lines: bytes | Exception) -> SelftestClient:
    return SelftestClient(FakeChannel(lines, stderr=b"Traceback: boom"))


def test_whole_conversation() -> None:
    """Hello, load, test, quit; a listener gets all lines."""
    replies = [
        protocol.encode(protocol.Loaded(1, 1.5, {"lsm": "fires"})),
        protocol.encode(protocol.Ran(2, "open.match", "PASS")),
        protocol.encode(protocol.Pong(3, loaded=True)),
        protocol.encode(protocol.Bye(4)),
    ]
    channel = FakeChannel([HELLO, *replies])
    guest, heard = FakeGuest(channel=channel), list[str]()
    talk = SelftestClient.start(guest, 5, note=lambda direction, _line: heard.append(direction))
    assert talk.load("auto", "kernel", "ringbuf", 5).capabilities == {"lsm": "fires"}
    assert talk.test("open.match", 5).verdict == "PASS"
    assert talk.ping(5)
    assert talk.quit() == 0
    assert guest.commands == [SERVE]
    assert heard == ["received", *["sent", "received"] * 4]
    assert [protocol.decode_request(line) for line in channel.written][1] == protocol.Run(2, "open.match", 5)


def test_a_load_that_takes_steps_is_given_more_time() -> None:
    """Each step allows the whole time for the next one, up to a limit of the load."""
    step = protocol.encode(protocol.Step(1))
    channel = FakeChannel([step, step, protocol.encode(protocol.Loaded(1, 1.5))], stderr=b"boom")
    assert SelftestClient(channel).load("auto", "kernel", "ringbuf", 500.0).seconds == 1.5
    assert len(channel.waited) == 3
    assert all(400 < limit <= 500 for limit in channel.waited)


def test_an_end_that_takes_steps_is_given_more_time() -> None:
    """Some kernels take seconds to detach a program."""
    step = protocol.encode(protocol.Step(1))
    channel = FakeChannel([step, step, protocol.encode(protocol.Bye(1))], stderr=b"boom")
    assert SelftestClient(channel).quit(500.0) == 0
    assert all(400 < limit <= 500 for limit in channel.waited)


def test_steps_do_not_prolong_a_load_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that only sends steps is given up."""
    monkeypatch.setattr("harness.host.deadlines.MOST", 0.0)
    step = protocol.encode(protocol.Step(1))
    channel = FakeChannel([step, GuestTimeoutError("no answer in time")], stderr=b"boom")
    with pytest.raises(GuestTimeoutError):
        SelftestClient(channel).load("auto", "kernel", "ringbuf", 500.0)
    assert channel.waited == [0.0, 0.0]


def test_a_step_of_no_load_is_an_error() -> None:
    """Of another request, or while a test runs."""
    with pytest.raises(BrokenServerError, match="another request"):
        client(protocol.encode(protocol.Step(2))).load("auto", "kernel", "ringbuf", 5)
    with pytest.raises(BrokenServerError, match="another request"):
        client(protocol.encode(protocol.Step(1))).test("open.match", 5)


def test_refusal_keeps_its_evidence() -> None:
    """The error has the verifier's log."""
    refused = client(
        protocol.encode(protocol.Refused(1, "load failed", hint="see detail", detail="0: (85) call"))
    )
    with pytest.raises(RefusedError, match="load failed") as raised:
        refused.load("auto", "kernel", "ringbuf", 5)
    assert (raised.value.hint, raised.value.detail) == ("see detail", "0: (85) call")


@pytest.mark.parametrize(
    "reply",
    [
        protocol.encode(protocol.Ran(7, "open.match", "PASS")),
        protocol.encode(protocol.Ran(1, "another", "PASS")),
        protocol.encode(protocol.Pong(1)),
        b"PASS\n",
        b'{"did":"test","id":1,"name":"open.match"}\n',
    ],
    ids=["another id", "another test", "another kind", "no message", "no verdict"],
)
def test_an_invalid_answer_is_an_error(reply: bytes) -> None:
    """It never becomes a verdict."""
    with pytest.raises(BrokenServerError) as raised:
        client(reply).test("open.match", 5)
    assert raised.value.detail == "Traceback: boom"


def test_a_line_without_end_is_the_servers_fault() -> None:
    """An overlong line is an error of the server, not of the infrastructure."""
    with pytest.raises(BrokenServerError, match="over 8 bytes"):
        client(TooMuchOutputError("wrote a line over 8 bytes")).test("open.match", 5)


def test_early_end_is_no_pass() -> None:
    """If the channel ends, the server has ended; the error has its last output."""
    with pytest.raises(BrokenServerError, match="ended"):
        client().test("open.match", 5)


@pytest.mark.parametrize("error", [GuestTimeoutError("late"), GuestLostError("reset")])
def test_guest_errors_pass_through(error: Exception) -> None:
    """The caller decides what they mean."""
    with pytest.raises(type(error)):
        client(error).test("open.match", 5)


def test_other_version() -> None:
    """A server with another version of the protocol is refused."""
    channel = FakeChannel([protocol.encode(protocol.Hello("9", 1, 99))])
    with pytest.raises(BrokenServerError, match="version 99"):
        SelftestClient.start(FakeGuest(channel=channel), 5)
