"""Reads YAML files so that every scalar stays a string and every value has a line number.

Ordinary YAML reads `6.10` as the number 6.1 and `no` as false. Files may be hostile, such as a matrix from a
pull request: size and depth are bounded, and anchors, aliases, tags and second documents are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError
from harness.host import files, private

MAX_BYTES = 256 << 10
MAX_DEPTH = 16

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """`data` is nested dict, list and str; `lines` maps each place in it to its line, counted from 1."""

    name: str
    data: Any
    lines: dict[Place, int] = field(default_factory=dict)

    def line(self, place: Sequence[str | int]) -> int:
        """The line of `place`, or of the innermost value around it that has a line."""
        for end in range(len(place), -1, -1):
            if tuple(place[:end]) in self.lines:
                return self.lines[tuple(place[:end])]
        return 1


def read(path: Path) -> Document:
    """Read and parse a file. Raises ConfigError with name and line, also if another user can change it."""
    try:
        with files.open_regular(path) as file:
            private.check_input(path, file.fileno())
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return parse(content, path.name)


def parse(content: bytes, name: str) -> Document:
    """Parse the bytes of the file `name`. Raises ConfigError."""
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_BYTES >> 10} KiB")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{name}:{line}: not UTF-8 (byte 0x{content[error.start]:02x})") from error
    try:
        return _document(text, name)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: character U+{error.character:04X} is not allowed") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or error.context}") from error


class _Loader(yaml.BaseLoader):
    """Composes nodes whose scalars are strings, and checks each event before its node is composed."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs are incomplete
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise _problem("anchors and aliases are not supported; write the value out", event)
        if event.tag not in (None, "!"):
            raise _problem("tags (`!name`) are not supported", event)
        if self.depth > MAX_DEPTH:
            raise _problem(f"nested deeper than {MAX_DEPTH} levels", event)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        assert node
        return node


def _document(text: str, name: str) -> Document:
    loader = _Loader(text)
    if not loader.check_node():
        raise ConfigError(f"{name}: the file is empty")
    root = loader.get_node()
    assert root
    if loader.check_node():
        second = loader.get_event()  # type: ignore[no-untyped-call]  # the stubs are incomplete
        raise _problem("a second document (one file is one document)", second)
    lines: dict[Place, int] = {}
    return Document(name, _value(root, (), lines), lines)


def _value(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    """Convert a node, and note the line of each value; the line of a key is also that of its value."""
    lines.setdefault(place, _line(node))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, index), lines) for index, item in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        return node.value
    values: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _problem("a key must be a word", key)
        if key.value in values:
            first = lines[(*place, key.value)]
            raise _problem(f"duplicate key {key.value!r} (first in line {first})", key)
        lines[(*place, key.value)] = _line(key)
        values[key.value] = _value(value, (*place, key.value), lines)
    return values


def _problem(problem: str, at: Any) -> yaml.MarkedYAMLError:
    """Return the error for the problem of a node or event."""
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1
