"""The messages between a harness and `agent selftest --serve`: JSON Lines, one object a line, ASCII only.

    server  {"hello":1,"agent":"0.1.0","pid":412}
    client  {"do":"load","id":1,"hookset":"auto","btf":"kernel","transport":"ringbuf"}
    server  {"did":"load","id":1,"ok":true,"seconds":1.2,"capabilities":{...},"hooks":[...],"coverage":{...}}
    client  {"do":"test","id":2,"name":"approvers.path"}
    server  {"did":"test","id":2,"ok":true,"name":"approvers.path","verdict":"PASS",...}
    client  {"do":"quit","id":3}
    server  {"did":"quit","id":3,"ok":true}

A request that cannot be served is answered with `{"id":...,"ok":false,"error":...,"hint":...,"detail":...}`,
never with silence. Reading is strict: an unknown key, a missing one, a wrong type or a line that is too long
is a `ProtocolError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar, TypeVar

MAX_LINE = 4 << 20  # bytes; verifier logs and the evidence of a failed test are the long ones
VERSION = 1
VERDICTS = ("PASS", "FAIL", "SKIP")


class ProtocolError(ValueError):
    """A line that is not a message of this protocol; says why in one line."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The server's first line; `hello` is the version of the protocol."""

    TAG: ClassVar[tuple[str, str]] = ("hello", "")
    agent: str
    pid: int
    hello: int = VERSION


@dataclass(frozen=True, slots=True)
class Load:
    """Load and attach one variant of the agent in place of the one before."""

    TAG: ClassVar[tuple[str, str]] = ("do", "load")
    id: int
    hookset: str = "auto"
    btf: str = "kernel"
    transport: str = "ringbuf"


@dataclass(frozen=True, slots=True)
class Run:
    """Run one scenario on what is loaded."""

    TAG: ClassVar[tuple[str, str]] = ("do", "test")
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask for a sign of life."""

    TAG: ClassVar[tuple[str, str]] = ("do", "ping")
    id: int


@dataclass(frozen=True, slots=True)
class Quit:
    """Detach everything and end."""

    TAG: ClassVar[tuple[str, str]] = ("do", "quit")
    id: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The variant is attached.

    `capabilities` maps a hook type to load-fail, attach-fail, silent or fires; `hooks` are the rows of
    results.json; `coverage` maps an event type to full, degraded or none.
    """

    TAG: ClassVar[tuple[str, str]] = ("did", "load")
    id: int
    seconds: float
    capabilities: dict[str, Any] = field(default_factory=dict)
    hooks: list[Any] = field(default_factory=list)
    coverage: dict[str, Any] = field(default_factory=dict)
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Ran:
    """What one scenario proved.

    `assertions` and `ledger` are those of results.json; `log` holds the kernel's lines between begin and end.
    """

    TAG: ClassVar[tuple[str, str]] = ("did", "test")
    id: int
    name: str
    verdict: str
    reason: str = ""
    assertions: list[Any] = field(default_factory=list)
    ledger: dict[str, Any] = field(default_factory=dict)
    duration_s: float = 0.0
    log: list[Any] = field(default_factory=list)
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Pong:
    """The server is alive; `loaded` says whether a variant is."""

    TAG: ClassVar[tuple[str, str]] = ("did", "ping")
    id: int
    loaded: bool = False
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Bye:
    """Everything is detached; the server ends after this line."""

    TAG: ClassVar[tuple[str, str]] = ("did", "quit")
    id: int
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Refused:
    """The request could not be served; `id` is 0 when the line could not be read that far."""

    TAG: ClassVar[tuple[str, str]] = ("error", "")
    id: int
    error: str
    hint: str = ""
    detail: str = ""
    ok: bool = False


Request = Load | Run | Ping | Quit
Reply = Hello | Loaded | Ran | Pong | Bye | Refused

_Message = TypeVar("_Message", bound=Request | Reply)

_REQUESTS: tuple[type[Request], ...] = (Load, Run, Ping, Quit)
_REPLIES: tuple[type[Reply], ...] = (Hello, Loaded, Ran, Pong, Bye, Refused)
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "bool": (bool,),
    "dict[str, Any]": (dict,),
    "list[Any]": (list,),
}


def encode(message: Request | Reply) -> bytes:
    """One line, newline included; raises ProtocolError when it would be longer than MAX_LINE."""
    key, value = message.TAG
    body = ({key: value} if value else {}) | asdict(message)
    try:
        line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"
    except (TypeError, ValueError) as error:
        raise ProtocolError(f"a {type(message).__name__} cannot be written: {error}") from error
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a {type(message).__name__} of {len(line)} bytes is longer than {MAX_LINE}")
    return line


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
    return found if _is("int", found) else 0


def _decode(line: bytes, kinds: Iterable[type[_Message]]) -> _Message:
    body = _parse(line)
    for kind in kinds:
        key, value = kind.TAG
        if key in body and value in ("", body[key]):
            return _build(kind, body if not value else {k: v for k, v in body.items() if k != key})
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
    known = {entry.name: entry for entry in fields(kind)}
    if extra := sorted(body.keys() - known.keys()):
        raise ProtocolError(f"{kind.__name__} has no key {extra[0]!r}")
    for name, entry in known.items():
        if name not in body:
            if entry.default is MISSING and entry.default_factory is MISSING:
                raise ProtocolError(f"{kind.__name__} lacks the key {name!r}")
        elif not _is(str(entry.type), body[name]):
            raise ProtocolError(f"{kind.__name__}.{name} must be {entry.type}")
        elif name == "ok" and body[name] is not entry.default:
            raise ProtocolError(f"{kind.__name__} cannot say ok: {body[name]}")
    return kind(**body)


def _is(type_name: str, value: Any) -> bool:
    wanted = _TYPES[type_name]
    return isinstance(value, wanted) and (type_name == "bool" or not isinstance(value, bool))
