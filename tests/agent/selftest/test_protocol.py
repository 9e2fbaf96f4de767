"""Messages are decoded as they were encoded, and any bytes cause at most a ProtocolError."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.selftest import protocol
from agent.selftest.protocol import (
    MAX_LINE,
    Bye,
    Hello,
    Load,
    Loaded,
    Ping,
    Pong,
    ProtocolError,
    Quit,
    Ran,
    Refused,
    Reply,
    Request,
    Run,
    decode_reply,
    decode_request,
    encode,
    request_id,
)

IDS = st.integers(0, 2**53)
TEXT = st.text(max_size=40)
JSON = st.dictionaries(
    TEXT, st.recursive(st.none() | st.booleans() | st.integers() | TEXT, st.lists), max_size=3
)
TUPLES = st.lists(JSON, max_size=2).map(tuple)

REQUESTS: st.SearchStrategy[Request] = st.one_of(
    st.builds(
        Load, id=IDS, hookset=TEXT, btf=TEXT, transport=TEXT, events=st.lists(TEXT, max_size=3).map(tuple)
    ),
    st.builds(Run, id=IDS, name=TEXT, deadline_s=st.floats(0, 1e6)),
    st.builds(Ping, id=IDS),
    st.builds(Quit, id=IDS),
)
REPLIES: st.SearchStrategy[Reply] = st.one_of(
    st.builds(Hello, agent=TEXT, pid=IDS),
    st.builds(
        Loaded,
        id=IDS,
        seconds=st.floats(0, 1e6),
        capabilities=JSON,
        hooks=TUPLES,
        coverage=JSON,
        limits=JSON,
    ),
    st.builds(
        Ran,
        id=IDS,
        name=TEXT,
        verdict=st.sampled_from(protocol.VERDICTS),
        reason=TEXT,
        assertions=TUPLES,
        ledger=JSON,
        duration_s=st.floats(0, 1e6),
        log=TUPLES,
    ),
    st.builds(Pong, id=IDS, loaded=st.booleans()),
    st.builds(Bye, id=IDS, hooks=TUPLES),
    st.builds(Refused, id=IDS, error=TEXT, hint=TEXT, detail=TEXT),
)


def line_of(**body: Any) -> bytes:
    return json.dumps(body).encode()


@given(REQUESTS)
def test_requests_are_decoded_as_encoded(request_: Request) -> None:
    line = encode(request_)
    assert line.isascii()
    assert line.find(b"\n") == len(line) - 1
    assert decode_request(line) == request_
    assert request_id(line) == request_.id


@given(REPLIES)
def test_replies_are_decoded_as_encoded(reply: Reply) -> None:
    line = encode(reply)
    assert line.isascii()
    assert line.find(b"\n") == len(line) - 1
    assert decode_reply(line) == reply


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(line: bytes) -> None:
    for decode in (decode_request, decode_reply):
        with pytest.raises(ProtocolError):
            decode(line)
    assert request_id(line) >= 0 or line


@given(REPLIES, st.data())
def test_damaged_lines_are_refused_or_are_other_messages(reply: Reply, data: st.DataObject) -> None:
    line = bytearray(encode(reply))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255))
    try:
        found = decode_reply(bytes(line))
    except ProtocolError:
        return
    assert isinstance(found, Reply)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"", "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "not valid JSON"),
        (line_of(do="dance", id=1), "not a message"),
        (line_of(do="test", id=1), "lacks the key 'name'"),
        (line_of(do="test", id=1, name="x", colour="red"), "no key 'colour'"),
        (line_of(do="test", id="1", name="x"), "must be int"),
        (line_of(do="test", id=True, name="x"), "must be int"),
        (line_of(do="ping", id=float("nan")), "not valid JSON"),
        (line_of(do="ping", id=1, pad="x" * MAX_LINE), "more than"),
    ],
)
def test_an_invalid_request_is_refused_with_a_reason(line: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode_request(line)


def test_a_reply_cannot_contradict_itself() -> None:
    with pytest.raises(ProtocolError, match="not a message"):
        decode_reply(line_of(did="quit", id=1, ok=False))
    with pytest.raises(ProtocolError, match="unknown verdict"):
        decode_reply(line_of(did="test", ok=True, id=1, name="x", verdict="pass"))


def test_a_message_that_cannot_be_decoded_is_not_encoded() -> None:
    with pytest.raises(ProtocolError, match="cannot encode"):
        encode(Loaded(1, float("nan")))
    with pytest.raises(ProtocolError, match="cannot encode"):
        encode(Ran(1, "x", "PASS", assertions=(b"bytes",)))
    with pytest.raises(ProtocolError, match="more than"):
        encode(Refused(1, "x" * MAX_LINE))
