"""The values of rule expressions for the naive evaluator: tokens, literals, fields and variables.

Its tables repeat those of `agent.rules` on purpose: an evaluator that shared them would share their mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypedDict

from tests.campaigns.law import naive_patterns, naive_words
from tests.campaigns.law.naive_patterns import RefusedError, UndefinedError

Event = Mapping[str, object]
Read = Callable[[Event], object]  # a number, bytes, a truth value; of many: a list of them; None: not known

UNITS = {
    "ns": 1,
    "us": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    "d": 86400 * 10**9,
}
ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    '"': '"',
    "\\": "\\",
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "v": "\v",
    "0": "\0",
}
EVERY_EVENT = frozenset({"process", "container", "cgroup", "event"})
TOKENS = re.compile(
    r"""(?P<skip>[ \t\r\n]+|(?:\#|//)[^\n]*)
    |(?P<address>\d+\.\d+\.\d+\.\d+(?:/\d+)?)
    |(?P<duration>(?:\d+(?:ns|us|ms|s|m|h|d))+\b)
    |(?P<regex>r"(?:[^"\\]|\\.)*")
    |(?P<or>\|\||or\b)|(?P<and>&&|and\b)|(?P<not>!(?![=~])|not\b)|(?P<in>in\b|allin\b)
    |(?P<compare>==|!=|<=|>=|=~|!~|<|>)
    |(?P<glob>~"(?:[^"\\]|\\.)*")
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<variable>\$\{[A-Za-z_][A-Za-z0-9_.]*\})
    |(?P<number>0[xX][0-9a-fA-F]+\b|0[oO]?[0-7]*\b|[1-9][0-9]*\b)
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\[\w*\])?(?:\.[A-Za-z_][A-Za-z0-9_]*(?:\[\w*\])?)*)
    |(?P<sign>[-+&|^()\[\],])""",
    re.DOTALL | re.VERBOSE,
)


class Token(NamedTuple):
    kind: str
    text: str


@dataclass(frozen=True)
class Node:
    """A part of an expression: its type, and how an event gives its value."""

    kind: str  # number, text, bool, pattern, list, regex, variable
    read: Read
    many: bool = False
    path: bool = False
    constant: bool = False
    shape: str = ""  # "and" or a bit operator, until parentheses close around it
    matcher: Callable[[bool], naive_patterns.Matcher] | None = None  # of a pattern; the argument: for a path
    items: tuple[Node, ...] = ()
    types: frozenset[str] = frozenset()  # of events, that fields below belong to; `$open` for `${open.flags}`
    variables: frozenset[str] = frozenset()  # that are not fields


def tokens(expression: str) -> list[Token]:
    """Return the tokens of an expression, without blanks and comments.

    :raises RefusedError: a character that begins no token
    """
    found, at = [], 0
    while at < len(expression):
        token = TOKENS.match(expression, at)
        if token is None or token.lastgroup is None:
            raise RefusedError(f"no token at {at}")
        if token.lastgroup != "skip":
            found.append(Token(token.lastgroup, token.group()))
        at = token.end()
    return found


def any_of(values: Iterable[object]) -> bool | None:
    """Return whether one of the values is true; None if that is not known."""
    values = list(values)
    return True if True in values else None if None in values else False


def all_of(values: Iterable[object]) -> bool | None:
    """Return whether all values are true; None if that is not known."""
    values = list(values)
    return False if False in values else None if None in values else True


class Used(TypedDict):
    """What an expression uses: event types and variables."""

    types: frozenset[str]
    variables: frozenset[str]


def used(*nodes: Node) -> Used:
    """Return what the nodes use together."""
    return {
        "types": frozenset().union(*(node.types for node in nodes)),
        "variables": frozenset().union(*(node.variables for node in nodes)),
    }


def field(name: str) -> Node:
    """Return a field of the page's table, or the length of one.

    :raises RefusedError: the table has no such field
    """
    known = naive_words.fields()
    event = name.split(".", 1)[0]
    types = frozenset[str]() if event in EVERY_EVENT else frozenset({event})
    if name not in known and name.endswith(".length") and "string" in known.get(name[:-7], ""):
        if "list" in known[name[:-7]]:
            raise UndefinedError("the length of a list")
        node = replace(field(name[:-7]), kind="number", path=False)
        read = node.read
        return replace(
            node, read=lambda event: None if (text := read(event)) is None else len(as_bytes(text))
        )
    if name not in known:
        raise RefusedError(f"no field {name}")
    if known[name] == "bool":
        return Node(
            "bool", lambda event: None if (raw := event.get(name)) is None else bool(raw), types=types
        )
    kind = "number" if "int" in known[name] else "text"
    path = name.endswith(".path") and name != "mount.source.path"
    many = known[name].startswith("list")
    if many:
        return Node(kind, lambda event: _values(event.get(name)), many, path, types=types)
    return Node(kind, lambda event: _value(event.get(name)), path=path, types=types)


def _value(raw: object) -> object:
    return raw.encode("utf-8", "surrogateescape") if isinstance(raw, str) else raw


def _values(raw: object) -> object:
    return [_value(item) for item in raw] if isinstance(raw, list | tuple) else None


def as_bytes(text: object) -> bytes:
    if not isinstance(text, bytes):
        raise UndefinedError(f"{text!r} is no text")
    return text


def value(token: Token, files: str = "") -> Node:
    """Return a literal, a pattern or a variable.

    :raises RefusedError: the token begins no value
    """
    if token.kind == "number":
        text = token.text.lower()
        octal = re.fullmatch("0o?([0-7]+)", text)
        if len(text) > 100:
            raise RefusedError("more than 64 bits")
        number = _limited(int(octal[1], 8) if octal else int(text, 0))
        return Node("number", lambda _: number, constant=True)
    if token.kind == "duration":
        parts = re.findall("([0-9]+)([a-z]+)", token.text)
        if len(token.text) > 100:
            raise RefusedError("more than 64 bits")
        time = _limited(sum(int(amount) * UNITS[unit] for amount, unit in parts))
        return Node("number", lambda _: time, constant=True)
    if token.kind == "string":
        return _text(token.text[1:-1], files)
    if token.kind in {"glob", "regex"}:
        pattern = token.text[2:-1].replace('\\"', '"').encode("utf-8", "surrogateescape")
        return as_glob(pattern) if token.kind == "glob" else as_regex(pattern)
    if token.kind == "variable":
        return _variable(token.text[2:-1], files)
    raise RefusedError(f"unexpected {token.text!r}")


def _limited(number: int) -> int:
    if number.bit_length() > 64:
        raise RefusedError("more than 64 bits")
    return number


def _text(inside: str, files: str) -> Node:
    """Return a text literal: its escapes replaced, then its `${name}` by what they stand for in the event."""
    whole = _unescaped(inside)
    names = re.split(rb"\$\{([A-Za-z_][A-Za-z0-9_.]*)\}", whole)
    if len(names) == 1:
        return Node("text", lambda _: whole, constant=True)
    parts = [_variable(name.decode(), files) if at % 2 else name for at, name in enumerate(names)]
    if any(isinstance(part, Node) and part.many for part in parts):
        raise UndefinedError("a list within a text")

    def read(event: Event) -> object:
        values = [part.read(event) if isinstance(part, Node) else part for part in parts]
        if any(value is None for value in values):
            return None
        return b"".join(value if isinstance(value, bytes) else str(value).encode() for value in values)

    return Node("text", read, **used(*(part for part in parts if isinstance(part, Node))))


def _unescaped(text: str) -> bytes:
    made, at = b"", 0
    for escape in re.finditer(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", text, re.DOTALL):
        made += text[at : escape.start()].encode("utf-8", "surrogateescape")
        at, name = escape.end(), escape[1]
        point = int(name[1:], 16) if len(name) > 1 else 0
        if point > 0x10FFFF or 0xD800 <= point < 0xE000:
            raise RefusedError("no character")
        if len(name) > 1:
            made += bytes([point]) if name[0] == "x" else chr(point).encode()
        elif name in ESCAPES:
            made += ESCAPES[name].encode()
        else:
            raise RefusedError(f"escape \\{name}")
    return made + text[at:].encode("utf-8", "surrogateescape")


def as_glob(pattern: bytes) -> Node:
    """Return a glob.

    :raises RefusedError: a value of an event within it; for a path, one that no file can have
    """
    _constant(pattern)

    def matcher(path: bool) -> naive_patterns.Matcher:
        if path:
            possible(pattern, glob=True)
        return naive_patterns.glob(pattern, path=path)

    return Node("pattern", lambda _: None, constant=True, matcher=matcher)


def as_regex(pattern: bytes) -> Node:
    """Return a regular expression.

    :raises RefusedError: a value of an event within it
    """
    _constant(pattern)
    found = naive_patterns.regex(pattern)
    return Node("pattern", lambda _: None, constant=True, matcher=lambda _: found)


def _constant(pattern: bytes) -> None:
    if re.search(rb"\$\{[A-Za-z_][A-Za-z0-9_.]*\}", pattern):
        raise RefusedError("a value of an event within a pattern")


def possible(path: bytes, *, glob: bool = False) -> None:
    """Check a text, or a glob, that a path is compared with.

    :raises RefusedError: no file can have it
    """
    if not path or path == b"/":
        raise UndefinedError(f"the path {path!r}")
    begins = path.startswith((b"/", b"*") if glob else b"/")
    if not begins or {b"", b".", b".."} & set(path.split(b"/")[1:]):
        raise RefusedError(f"no file has the path {path!r}")


def _variable(name: str, files: str) -> Node:
    if name.startswith("fim.write.file."):
        return replace(field(f"{files or 'open.file'}.{name[15:]}"), types=frozenset({"$fim"}))
    if name in naive_words.fields():
        known = field(name)
        return replace(known, types=frozenset(f"${kind}" for kind in known.types))
    return Node("variable", lambda event: _stored(event.get("${" + name + "}")), variables=frozenset({name}))


def _stored(raw: object) -> object:
    return _values(raw) if isinstance(raw, list | tuple) else _value(raw)
