"""Reads YAML files so that every scalar stays a string and every value has a line number.

Ordinary YAML reads `6.10` as the number 6.1 and `no` as false. Files may be hostile, such as a matrix from a
pull request: size and depth are bounded, and anchors, aliases, tags and second documents are errors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
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
            statuses = {path: os.fstat(file.fileno()), path.parent: path.parent.stat()}
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    for where, status in statuses.items():
        if private.foreign(status):
            hint = f"run as that user, or chown {os.geteuid()} {where}"
            raise ConfigError(f"{path}: uid {status.st_uid} can change it: {where} belongs to it", hint=hint)
    if private.open_to_all(statuses[path]) or private.replaceable(statuses[path.parent]):
        where = path if private.open_to_all(statuses[path]) else path.parent
        raise ConfigError(f"{path}: every user of this host can change it", hint=f"run chmod o-w {where}")
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
        return _Builder(name, iter(yaml.parse(text, Loader=yaml.SafeLoader))).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"{name}:{line}: character U+{error.character:04X} is not allowed") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}" if mark else name
        raise ConfigError(f"{where}: {error.problem or error.context}") from error


class _Builder:
    """Builds the tree from parser events, so that each value is checked before it is expanded."""

    def __init__(self, name: str, events: Iterator[yaml.Event]) -> None:
        self.name = name
        self.events = events
        self.lines: dict[Place, int] = {}

    def document(self) -> Document:
        next(self.events)  # start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise ConfigError(f"{self.name}: the file is empty")
        data = self._value(next(self.events), ())
        next(self.events)  # end of the document
        after = next(self.events)
        if not isinstance(after, yaml.StreamEndEvent):
            raise self._error(after, "a second document (one file is one document)")
        return Document(self.name, data, self.lines)

    def _value(self, event: yaml.Event, place: Place) -> Any:
        self._check(event, place)
        self.lines.setdefault(place, _line(event))
        if isinstance(event, yaml.ScalarEvent):
            return event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(place)
        return self._mapping(place)

    def _check(self, event: yaml.Event, place: Place) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise self._error(event, "anchors and aliases are not supported; write the value out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise self._error(event, "tags (`!name`) are not supported")
        if len(place) > MAX_DEPTH:
            raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")

    def _sequence(self, place: Place) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            values.append(self._value(event, (*place, len(values))))
        return values

    def _mapping(self, place: Place) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            self._check(event, place)
            if not isinstance(event, yaml.ScalarEvent):
                raise self._error(event, "a key must be a word")
            key: str = event.value
            if key in values:
                first = self.lines[(*place, key)]
                raise self._error(event, f"duplicate key {key!r} (first in line {first})")
            self.lines[(*place, key)] = _line(event)
            values[key] = self._value(next(self.events), (*place, key))
        return values

    def _error(self, event: yaml.Event, problem: str) -> ConfigError:
        return ConfigError(f"{self.name}:{_line(event)}: {problem}")


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1
