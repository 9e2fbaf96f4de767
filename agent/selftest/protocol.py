"""The messages between a harness and `agent selftest --serve`: JSON Lines, one object a line, ASCII only.

    server  {"hello":1,"agent":"0.1.0","pid":412}
    client  {"do":"load","id":1,"hookset":"auto","btf":"kernel","transport":"ringbuf"}
    server  {"did":"load","ok":true,"id":1,"seconds":1.2,"capabilities":{...},"hooks":[...],"coverage":{...}}
    client  {"do":"test","id":2,"name":"approvers.path"}
    server  {"did":"test","ok":true,"id":2,"name":"approvers.path","verdict":"PASS",...}
    client  {"do":"quit","id":3}
    server  {"did":"quit","ok":true,"id":3}

A request that cannot be served is answered, never met with silence:

    server  {"did":"","ok":false,"id":4,"error":"nothing is loaded","hint":"...","detail":"..."}

Reading is strict: an unknown key, a missing one, a wrong type or too long a line is a `ProtocolError`.
Messages are named tuples, because a guest that is emulated pays dearly for the creation of classes.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

MAX_LINE = 4 << 20  # bytes; verifier logs and the evidence of a failed test are the long ones
VERSION = 1
VERDICTS = ("PASS", "FAIL", "SKIP")

_NOTHING: dict[str, Any] = {}


class ProtocolError(ValueError):
    """A line that is not a message of this protocol; says why in one line."""


class Load(NamedTuple):
    """Load and attach one variant of the agent in place of the one before.

    `events` are the labels of event types; with any, only programs that these and the agent's minimum need.
    """

    id: int
    hookset: str = "auto"
    btf: str = "kernel"
    transport: str = "ringbuf"
    events: tuple[Any, ...] = ()


class Run(NamedTuple):
    """Run one scenario on what is loaded."""

    id: int
    name: str


class Ping(NamedTuple):
    """Ask for a sign of life."""

    id: int


class Quit(NamedTuple):
    """Detach everything and end."""

    id: int


class Hello(NamedTuple):
    """The server's first line; `hello` is the version of the protocol."""

    agent: str
    pid: int
    hello: int = VERSION


class Loaded(NamedTuple):
    """The variant is attached.

    `capabilities` maps a hook type to load-fail, attach-fail, silent or fires; `hooks` are the rows of
    results.json; `coverage` maps an event type to full, degraded or none; `limits` says of some in words
    what cannot be seen.
    """

    id: int
    seconds: float
    capabilities: dict[str, Any] = _NOTHING
    hooks: tuple[Any, ...] = ()
    coverage: dict[str, Any] = _NOTHING
    limits: dict[str, Any] = _NOTHING


class Ran(NamedTuple):
    """What one scenario proved.

    `assertions` and `ledger` are those of results.json; an assertion that does not hold also has `evidence`.
    `log` holds the kernel's lines between the begin and the end of the test.
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
    """The server is alive; `loaded` says whether a variant is."""

    id: int
    loaded: bool = False


class Bye(NamedTuple):
    """Everything is detached; the server ends after this line. `hooks` are those of Loaded at the end."""

    id: int
    hooks: tuple[Any, ...] = ()


class Refused(NamedTuple):
    """The request could not be served; `id` is 0 when the line could not be read that far."""

    id: int
    error: str
    hint: str = ""
    detail: str = ""


Request = Load | Run | Ping | Quit
Reply = Hello | Loaded | Ran | Pong | Bye | Refused

_Message = TypeVar("_Message", bound=Request | Reply)

_HEAD = ("did", "do", "ok")  # what stands in a line beside the message's own fields

_REQUESTS: dict[type[Request], dict[str, Any]] = {
    Load: {"do": "load"},
    Run: {"do": "test"},
    Ping: {"do": "ping"},
    Quit: {"do": "quit"},
}
_REPLIES: dict[type[Reply], dict[str, Any]] = {
    Hello: {},
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
    """One line, newline included; raises ProtocolError when it would be longer than MAX_LINE."""
    kind = type(message)
    try:
        text = json.dumps(_HEADS[kind] | message._asdict(), separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a {kind.__name__} cannot be written: {error}") from error
    if len(text) >= MAX_LINE:
        raise ProtocolError(f"a {kind.__name__} of {len(text)} bytes is longer than {MAX_LINE}")
    return text.encode("ascii") + b"\n"


def decode_request(line: bytes) -> Request:
    """Read what a client sent; raises ProtocolError."""
    return _decode(line, _REQUESTS)


def decode_reply(line: bytes) -> Reply:
    """Read what the server sent; raises ProtocolError."""
    reply = _decode(line, _REPLIES)
    if isinstance(reply, Ran) and reply.verdict not in VERDICTS:
        raise ProtocolError(f"{reply.verdict!r} is no verdict (one of {', '.join(VERDICTS)})")
    return reply


def request_id(line: bytes) -> int:
    """The id in a line that may be damaged, so that a refusal reaches its sender; 0 when there is none."""
    try:
        found = _parse(line).get("id", 0)
    except ProtocolError:
        return 0
    return found if _is(int, found) else 0


def _decode(line: bytes, kinds: Mapping[type[_Message], dict[str, Any]]) -> _Message:
    body = _parse(line)
    head = {key: body.pop(key) for key in _HEAD if key in body}
    for kind, expected in kinds.items():
        if repr(head) == repr(expected):  # as text, 1 is not True
            return _build(kind, body)
    raise ProtocolError("this is no message of the protocol")


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a line of {len(line)} bytes is longer than {MAX_LINE}")
    try:
        body = json.loads(line.decode("ascii"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"this is no JSON line: {error}") from error
    if not isinstance(body, dict):
        raise ProtocolError("a message is a JSON object")
    return body


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON number")


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
