"""Defines the syntax tree of an expression, before names and types are checked.

Every node has `at` and `end`, offsets in the expression's text, so that an error can point at it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Name(NamedTuple):
    """A field, a constant or a macro."""

    at: int
    end: int
    text: str


class Text(NamedTuple):
    """A quoted text: `kind` is "string", "glob" or "regex"."""

    at: int
    end: int
    kind: str
    value: bytes


class Number(NamedTuple):
    """An integer; a duration in nanoseconds."""

    at: int
    end: int
    value: int


class Variable(NamedTuple):
    """`${name}`."""

    at: int
    end: int
    name: str


class Sequence(NamedTuple):
    """`[a, b]`."""

    at: int
    end: int
    items: tuple[Node, ...]


class Group(NamedTuple):
    """An expression in parentheses."""

    at: int
    end: int
    inner: Node


class Unary(NamedTuple):
    """`!`, `-` or `^` before an operand."""

    at: int
    end: int
    operator: str
    operand: Node


class Binary(NamedTuple):
    """A comparison (`==` `in` `not in` `=~` ...) or arithmetic (`+ - & | ^`)."""

    at: int
    end: int
    operator: str
    left: Node
    right: Node


class Logic(NamedTuple):
    """`&&` or `||` between two or more conditions."""

    at: int
    end: int
    operator: str
    items: tuple[Node, ...]


Node = Name | Text | Number | Variable | Sequence | Group | Unary | Binary | Logic


def children(node: Node) -> tuple[Node, ...]:
    """Return the direct children of a node."""
    if isinstance(node, Sequence | Logic):
        return node.items
    if isinstance(node, Group):
        return (node.inner,)
    if isinstance(node, Unary):
        return (node.operand,)
    if isinstance(node, Binary):
        return (node.left, node.right)
    return ()


def walk(node: Node) -> Iterator[tuple[Node, int]]:
    """Yield every node with its depth, the root at 0. Not recursive, so depth is not limited."""
    pending = [(node, 0)]
    while pending:
        current, depth = pending.pop()
        yield current, depth
        pending += [(child, depth + 1) for child in reversed(children(current))]


_ESCAPES = {0x22: '\\"', 0x5C: "\\\\", 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t"}


def quote(value: bytes) -> str:
    """Return a string literal of the language for these bytes."""
    return '"' + "".join(_ESCAPES.get(b) or (chr(b) if 32 <= b < 127 else f"\\x{b:02x}") for b in value) + '"'


def unparse(node: Node) -> str:
    """Return text that parses to the same tree, except for positions and the notation of numbers."""
    if isinstance(node, Text):
        return _unparse_text(node)
    if isinstance(node, Name | Number | Variable):
        return _unparse_word(node)
    if isinstance(node, Sequence):
        return "[" + ", ".join(unparse(item) for item in node.items) + "]"
    if isinstance(node, Group):
        return f"({unparse(node.inner)})"
    if isinstance(node, Unary):
        return node.operator + unparse(node.operand)
    if isinstance(node, Logic):
        return f" {node.operator} ".join(unparse(item) for item in node.items)
    return f"{unparse(node.left)} {node.operator} {unparse(node.right)}"


def _unparse_word(node: Name | Number | Variable) -> str:
    if isinstance(node, Name):
        return node.text
    return str(node.value) if isinstance(node, Number) else f"${{{node.name}}}"


def _unparse_text(node: Text) -> str:
    if node.kind == "string":
        return quote(node.value)
    raw = node.value.decode("utf-8", "surrogateescape").replace('"', '\\"')
    return ("~" if node.kind == "glob" else "r") + f'"{raw}"'
