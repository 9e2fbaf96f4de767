"""The values of rule expressions for the naive evaluator: tokens, literals, fields and variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

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
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
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
    """A part of an expression: what it is, and how an event gives its value."""

    kind: str  # number, text, bool, pattern, list, regex, variable
    read: Read
    many: bool = False
    path: bool = False
    constant: bool = False
    shape: str = ""  # "and" or a bit operator, until parentheses close around it
    matcher: Callable[[bool], naive_patterns.Matcher] | None = None  # of a pattern; the argument: for a path
    items: tuple[Node, ...] = ()
    types: frozenset[str] = frozenset()  # of events, that the fields below belong to


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


def types_of(*nodes: Node) -> frozenset[str]:
    return frozenset().union(*(node.types for node in nodes))


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


def value(token: Token) -> Node:
    """Return a literal, a pattern or a variable.

    :raises RefusedError: the token begins no value
    """
    if token.kind == "number":
        text = token.text.lower()
        octal = re.fullmatch("0o?([0-7]+)", text)
        number = int(octal[1], 8) if octal else int(text, 0)
        return Node("number", lambda _: number, constant=True)
    if token.kind == "duration":
        parts = re.findall("([0-9]+)([a-z]+)", token.text)
        time = sum(int(amount) * UNITS[unit] for amount, unit in parts)
        return Node("number", lambda _: time, constant=True)
    if token.kind == "string":
        return _text(token.text[1:-1])
    if token.kind == "glob":
        return as_glob(_text(token.text[2:-1]))
    if token.kind == "regex":
        found = naive_patterns.regex(token.text[2:-1].encode("utf-8", "surrogateescape"))
        return Node("pattern", lambda _: None, constant=True, matcher=lambda _: found)
    if token.kind == "variable":
        return _variable(token.text[2:-1])
    raise RefusedError(f"unexpected {token.text!r}")


def _text(inside: str) -> Node:
    """Return a text literal: its escapes replaced, and its `${name}` by what they stand for in the event."""
    parts = [
        _variable(part[2:-1]) if part.startswith("${") and part.endswith("}") else _unescaped(part)
        for part in re.split(r"(\$\{[A-Za-z_][A-Za-z0-9_.]*\})", inside)
    ]
    if all(isinstance(part, bytes) for part in parts):
        text = b"".join(part for part in parts if isinstance(part, bytes))
        return Node("text", lambda _: text, constant=True)
    if any(isinstance(part, Node) and part.many for part in parts):
        raise UndefinedError("a list within a text")

    def read(event: Event) -> object:
        values = [part.read(event) if isinstance(part, Node) else part for part in parts]
        if any(value is None for value in values):
            return None
        return b"".join(value if isinstance(value, bytes) else str(value).encode() for value in values)

    return Node("text", read, types=types_of(*(part for part in parts if isinstance(part, Node))))


def _unescaped(text: str) -> bytes:
    made, at = b"", 0
    for escape in re.finditer(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", text, re.DOTALL):
        made += text[at : escape.start()].encode("utf-8", "surrogateescape")
        at, name = escape.end(), escape[1]
        if len(name) > 1 and 0xD800 <= int(name[1:], 16) < 0xE000:
            raise UndefinedError("half of a surrogate pair")
        if len(name) > 1:
            made += bytes.fromhex(name[1:]) if name[0] == "x" else chr(int(name[1:], 16)).encode()
        elif name in ESCAPES:
            made += ESCAPES[name].encode()
        else:
            raise UndefinedError(f"escape \\{name}")
    return made + text[at:].encode("utf-8", "surrogateescape")


def as_glob(text: Node) -> Node:
    if not text.constant:
        raise RefusedError("a value of an event within a glob")
    pattern = as_bytes(text.read({}))
    return Node(
        "pattern", lambda _: None, constant=True, matcher=lambda path: naive_patterns.glob(pattern, path=path)
    )


def _variable(name: str) -> Node:
    if name in naive_words.fields():
        return field(name)
    return Node("variable", lambda event: _stored(event.get("${" + name + "}")))


def _stored(raw: object) -> object:
    return _values(raw) if isinstance(raw, list | tuple) else _value(raw)
