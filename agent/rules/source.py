"""Reads rule files as trees of texts with their positions.

YAML would read `6.10` as a number and `no` as false; here every value stays a text. Files may be hostile, so
size, depth and number of values are bounded, and an alias counts as all values that it expands to.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import yaml

from agent.rules.problems import Problem

MAX_BYTES = 2 << 20  # of one file
MAX_DEPTH = 16
MAX_VALUES = 50_000


@dataclass(frozen=True)
class Source:
    """A file's name and text."""

    name: str
    text: str

    def problem(self, at: int, message: str, hint: str = "", width: int = 1) -> Problem:
        """Create a problem at an offset of the text."""
        start = self.text.rfind("\n", 0, at) + 1
        end = self.text.find("\n", start)
        excerpt = self.text[start : end if end >= 0 else None].rstrip("\r")
        return Problem(self.name, self.line(at), at - start + 1, message, excerpt, width, hint, at)

    def line(self, at: int) -> int:
        """Return the line number of an offset, from 1."""
        return bisect.bisect_left(self._newlines, at) + 1

    @cached_property
    def _newlines(self) -> list[int]:
        """The offsets of all newlines: `line` is called for each rule of a file."""
        return [match.start() for match in re.finditer("\n", self.text)]


class Scalar(NamedTuple):
    """A text; `style` is the character that quotes it or starts its block, "" for a plain scalar."""

    at: int
    end: int
    value: str
    style: str

    @property
    def plain(self) -> bool:
        """Whether it is not quoted, so that YAML would look for a number or boolean in it."""
        return not self.style


class Items(NamedTuple):
    """A list."""

    at: int
    end: int
    items: tuple[Node, ...]


class Mapping(NamedTuple):
    """Keys and values, in the order of the file; keys are unique."""

    at: int
    end: int
    pairs: tuple[tuple[Scalar, Node], ...]

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None."""
        return next((value for name, value in self.pairs if name.value == key), None)


Node = Scalar | Items | Mapping


class Unreadable(Exception):  # noqa: N818 - a wrapper: the error is `problem`
    """A file that is not valid YAML, or exceeds a bound."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def decode(name: str, data: bytes) -> Source:
    """Decode a file. Raises Unreadable for one that is too big or not UTF-8."""
    if len(data) > MAX_BYTES:
        raise Unreadable(Problem(name, 1, 1, f"the file is too large: the limit is {MAX_BYTES} bytes"))
    try:
        return Source(name, data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise Unreadable(Problem(name, line, column, "the file is not UTF-8")) from None


def read(source: Source) -> Node | None:
    """Parse a file; None for an empty one. Raises Unreadable."""
    composer = _Composer(source)
    try:
        for event in yaml.parse(source.text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            composer.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        message = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        at = getattr(mark, "index", getattr(error, "position", 0))
        raise Unreadable(source.problem(min(at or 0, len(source.text)), f"not YAML: {message}")) from None
    return composer.root


class _Open:
    """A list or mapping that is not closed yet."""

    def __init__(self, event: Any) -> None:
        self.at: int = event.start_mark.index
        self.anchor: str | None = event.anchor
        self.mapping = isinstance(event, yaml.MappingStartEvent)
        self.nodes: list[Node] = []
        self.size = 1


class _Composer:
    """Builds the tree from the parser's events without recursion."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.root: Node | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        """Process one event of the parser."""
        if getattr(event, "tag", None) is not None:
            raise self._fault(event, f"tags such as {event.tag} are not supported")
        at, end = event.start_mark.index, event.end_mark.index
        if isinstance(event, yaml.ScalarEvent):
            self._add(Scalar(at, end, event.value, event.style or ""), 1, event.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            if len(self._stack) >= MAX_DEPTH:
                raise self._fault(event, f"nested more than {MAX_DEPTH} levels deep")
            self._stack.append(_Open(event))
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._fault(event, "a second document begins here", "write one file for each")

    def _fault(self, event: Any, message: str, hint: str = "") -> Unreadable:
        return Unreadable(self.source.problem(event.start_mark.index, message, hint))

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            raise self._fault(event, f"no anchor of the alias *{event.anchor} ends before it")
        node, size = self._anchors[event.anchor]
        self._add(node, size, None)

    def _add(self, node: Node, size: int, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = (node, size)
        if not self._stack:
            self.root = node
            return
        self._stack[-1].nodes.append(node)
        self._stack[-1].size += size
        if self._stack[-1].size > MAX_VALUES:
            message = f"the file has more than {MAX_VALUES} values, aliases expanded"
            raise Unreadable(self.source.problem(node.at, message))

    def _close(self, event: Any) -> None:
        done = self._stack.pop()
        end: int = event.end_mark.index
        if not done.mapping:
            self._add(Items(done.at, end, tuple(done.nodes)), done.size, done.anchor)
            return
        pairs = tuple(self._pairs(done.nodes))
        self._add(Mapping(done.at, end, pairs), done.size, done.anchor)

    def _pairs(self, nodes: list[Node]) -> Iterator[tuple[Scalar, Node]]:
        seen: set[str] = set()
        for key, value in zip(nodes[::2], nodes[1::2], strict=True):
            if not isinstance(key, Scalar):
                raise Unreadable(self.source.problem(key.at, "a key must be a text"))
            if key.value in seen:
                raise Unreadable(self.source.problem(key.at, f"duplicate key `{key.value}`"))
            seen.add(key.value)
            yield key, value


_ESCAPES = {"x": 4, "u": 6, "U": 10}


def offset(source: Source, scalar: Scalar, index: int) -> int:
    """Return the offset in the file of the character at `index` of a scalar's value.

    Takes folding, quotes and escapes into account.
    """
    raw = source.text[scalar.at : scalar.end]
    block = scalar.style in ("|", ">")
    at = raw.find("\n") + 1 if block else len(scalar.style)
    indent = _indent(raw[at:]) if block else 0
    at += indent
    for char in scalar.value[:index]:
        at = _advance(raw, at, char, scalar.style, indent)
    return scalar.at + min(_skip(raw, at, scalar.value[index : index + 1]), max(0, len(raw) - 1))


def _indent(block: str) -> int:
    line = next((line for line in block.split("\n") if line.strip()), "")
    return len(line) - len(line.lstrip(" "))


def _skip(raw: str, at: int, char: str) -> int:
    """Skip white space that folding removed."""
    while at < len(raw) and raw[at] != char and raw[at] in " \t\r\n":
        at += 1
    return at


def _advance(raw: str, at: int, char: str, style: str, indent: int) -> int:
    """Skip the characters of the file that encode one character of the value."""
    if style == '"' and raw[at : at + 1] == "\\":
        return at + _ESCAPES.get(raw[at + 1 : at + 2], 2)
    if style == "'" and raw[at : at + 2] == "''":
        return at + 2
    if char in " \n" and raw[at:].lstrip(" \t\r").startswith("\n"):
        at = raw.index("\n", at) + 1
        return at + indent if indent else _skip(raw, at, "")
    return _skip(raw, at, char) + 1
