"""Defines the messages between a harness and `agent selftest --serve`: JSON Lines in ASCII.

    server  {"hello":1,"agent":"0.1.0","pid":412}
    client  {"do":"load","id":1,"hookset":"auto","btf":"kernel","transport":"ringbuf"}
    server  {"did":"step","ok":true,"id":1}
    server  {"did":"load","ok":true,"id":1,"seconds":1.2,"capabilities":{...},"hooks":[...],"coverage":{...}}
    client  {"do":"test","id":2,"name":"approvers.path","deadline_s":60.0}
    server  {"did":"test","ok":true,"id":2,"name":"approvers.path","verdict":"PASS",...}
    client  {"do":"quit","id":3}
    server  {"did":"quit","ok":true,"id":3}

While a load takes long, the server sends a step now and then, before the answer. It answers each request,
also one that it cannot serve:

    server  {"did":"","ok":false,"id":4,"error":"no variant is loaded","hint":"...","detail":"..."}

Decoding is strict: an unknown key, a missing key, a wrong type or too long a line is a `ProtocolError`.
Messages are named tuples, because creating classes takes long on an emulated CPU.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

MAX_LINE = 4 << 20  # bytes; the longest messages have verifier logs or the evidence of a failed test
VERSION = 2
VERDICTS = ("PASS", "FAIL", "SKIP")

_NOTHING: dict[str, Any] = {}


class ProtocolError(ValueError):
    """A line is not a message of this protocol; the message says why in one line."""


class Load(NamedTuple):
    """Load and attach one variant of the agent, and unload the one before.

    `events` are labels of event types. If there are any, only the programs that these types and the agent's
    minimum need are loaded. `world` is one of `agent.selftest.worlds`, or empty.
    """

    id: int
    hookset: str = "auto"
    btf: str = "kernel"
    transport: str = "ringbuf"
    events: tuple[Any, ...] = ()
    world: str = ""


class Run(NamedTuple):
    """Run one scenario with the loaded variant.

    The client gives up after `deadline_s` seconds, longer ones on a busy host; 0 if it does not say.
    """

    id: int
    name: str
    deadline_s: float = 0.0


class Ping(NamedTuple):
    """Ask the server for a sign of life."""

    id: int


class Quit(NamedTuple):
    """Detach everything and end the server."""

    id: int


class Hello(NamedTuple):
    """The server's first line; `hello` is the version of the protocol."""

    agent: str
    pid: int
    hello: int = VERSION


class Step(NamedTuple):
    """The load goes on: another program was loaded or attached since the last line."""

    id: int


class Loaded(NamedTuple):
    """The variant is attached.

    `capabilities` maps a program type to load-fail, attach-fail, silent, lossy or fires; `hooks` are the rows
    of results.json; `coverage` maps an event type to full, degraded or none; `limits` maps some event types
    to a text about what is not seen.
    """

    id: int
    seconds: float
    capabilities: dict[str, Any] = _NOTHING
    hooks: tuple[Any, ...] = ()
    coverage: dict[str, Any] = _NOTHING
    limits: dict[str, Any] = _NOTHING


class Ran(NamedTuple):
    """The result of one scenario.

    `assertions` and `ledger` are those of results.json; an assertion that does not hold also has `evidence`.
    `log` has the kernel's messages between begin and end of the test.
    """

    id: int
    name: str
    verdict: str
    reason: str = ""
    assertions: tuple[Any, ...] = ()
    ledger: dict[str, Any] = _NOTHING
    duration_s: float = 0.0
    log: tuple[Any, ...] = ()


class Pong(NamedTuple):
    """The server is alive; `loaded` is whether a variant is loaded."""

    id: int
    loaded: bool = False


class Bye(NamedTuple):
    """Everything is detached, and the server ends after this line. `hooks` are the final rows of Loaded."""

    id: int
    hooks: tuple[Any, ...] = ()


class Refused(NamedTuple):
    """The server could not serve the request; `id` is 0 if the line has no valid one."""

    id: int
    error: str
    hint: str = ""
    detail: str = ""


Request = Load | Run | Ping | Quit
Reply = Hello | Step | Loaded | Ran | Pong | Bye | Refused

_Message = TypeVar("_Message", bound=Request | Reply)

_HEAD = ("did", "do", "ok")  # keys of a line beside the message's own fields

_REQUESTS: dict[type[Request], dict[str, Any]] = {
    Load: {"do": "load"},
    Run: {"do": "test"},
    Ping: {"do": "ping"},
    Quit: {"do": "quit"},
}
_REPLIES: dict[type[Reply], dict[str, Any]] = {
    Hello: {},
    Step: {"did": "step", "ok": True},
    Loaded: {"did": "load", "ok": True},
    Ran: {"did": "test", "ok": True},
    Pong: {"did": "ping", "ok": True},
    Bye: {"did": "quit", "ok": True},
    Refused: {"did": "", "ok": False},
}
_HEADS: dict[type[Any], dict[str, Any]] = {**_REQUESTS, **_REPLIES}

# A field's type and the types that its JSON value may have.
_JSON: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    str: (str,),
    bool: (bool,),
    dict[str, Any]: (dict,),
    tuple[Any, ...]: (list,),
}


def encode(message: Request | Reply) -> bytes:
    """Return the line of a message, with newline. Raises ProtocolError if it is longer than MAX_LINE."""
    kind = type(message)
    try:
        text = json.dumps(_HEADS[kind] | message._asdict(), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"cannot encode {kind.__name__}: {error}") from error
    if len(text) >= MAX_LINE:
        raise ProtocolError(f"{kind.__name__} has {len(text)} bytes, more than {MAX_LINE}")
    return text.encode("ascii") + b"\n"


def decode_request(line: bytes) -> Request:
    """Decode a client's line. Raises ProtocolError."""
    return _decode(line, _REQUESTS)


def decode_reply(line: bytes) -> Reply:
    """Decode the server's line. Raises ProtocolError."""
    reply = _decode(line, _REPLIES)
    if isinstance(reply, Ran) and reply.verdict not in VERDICTS:
        raise ProtocolError(f"unknown verdict {reply.verdict!r} (one of {', '.join(VERDICTS)})")
    return reply


def request_id(line: bytes) -> int:
    """Return the id in a line that may be invalid, for the refusal; 0 if it has none."""
    try:
        value = _parse(line).get("id", 0)
    except ProtocolError:
        return 0
    return value if _is(int, value) else 0


def _decode(line: bytes, kinds: Mapping[type[_Message], dict[str, Any]]) -> _Message:
    body = _parse(line)
    head = {key: body.pop(key) for key in _HEAD if key in body}
    for kind, expected in kinds.items():
        if repr(head) == repr(expected):  # as text, because 1 == True
            return _build(kind, body)
    raise ProtocolError("the line is not a message of the protocol")


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise ProtocolError(f"the line has {len(line)} bytes, more than {MAX_LINE}")
    try:
        body = json.loads(line.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the line is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise ProtocolError("the line is not a JSON object")
    return body


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _build(kind: type[_Message], body: dict[str, Any]) -> _Message:
    if extra := sorted(body.keys() - set(kind._fields)):
        raise ProtocolError(f"{kind.__name__} has no key {extra[0]!r}")
    if missing := sorted(set(kind._fields) - body.keys() - kind._field_defaults.keys()):
        raise ProtocolError(f"{kind.__name__} lacks the key {missing[0]!r}")
    for name, value in body.items():
        wanted = kind.__annotations__[name]
        if not _is(wanted, value):
            raise ProtocolError(f"{kind.__name__}.{name} must be {_JSON[wanted][-1].__name__}")
        if isinstance(value, list):
            body[name] = tuple(value)
    return kind(**body)


def _is(wanted: Any, value: Any) -> bool:
    return isinstance(value, _JSON[wanted]) and (wanted is bool or not isinstance(value, bool))
