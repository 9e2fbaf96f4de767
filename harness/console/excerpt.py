"""Selects the lines of a console that a report shows: the first, the last, and those that decided a verdict.

A guest controls its console, so it may hold gigabytes, one endless line, or bytes that are not text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.console.signatures import recognise, stamped
from harness.text import visible

HEAD = 6  # lines
TAIL = 24  # lines
CONTEXT = 2  # lines before a marked one
MARKED = 48  # lines
READ_LIMIT = 64 << 20  # bytes; of a longer console only the end is read
LINE_BYTES = 8192  # of a longer line only the beginning is read
LINE_SHOWN = 400  # characters

# Lines to mark beside those with a signature: the begin of a trace, and errors of the guest's init.
_NOTABLE = re.compile(rb"Call Trace|fim-init: (?!ready)")


@dataclass(frozen=True)
class Line:
    """A line of the console; `mark` is "decided", "notable" or ""; `skipped` lines before it are omitted."""

    number: int
    text: str
    mark: str = ""
    skipped: int = 0


@dataclass(frozen=True)
class Excerpt:
    """The lines to show; `lines_total` counts the lines that were read, `unread` the bytes before them."""

    lines: tuple[Line, ...]
    lines_total: int
    bytes_total: int
    unread: int

    @property
    def marked(self) -> int:
        """The number of marked lines."""
        return sum(bool(line.mark) for line in self.lines)


def read(path: Path, reason: str) -> Excerpt | None:
    """The excerpt of the console at `path`, or None if it cannot be read. Marks the lines in `reason`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            unread = max(0, size - READ_LIMIT)
            file.seek(unread)
            return _excerpt(file, size, unread, reason)
    except OSError:
        return None


def _excerpt(file: BinaryIO, size: int, unread: int, reason: str) -> Excerpt:
    kept: dict[int, Line] = {}
    recent: deque[Line] = deque(maxlen=TAIL)
    number = marked = 0
    for number, raw in enumerate(_lines(file), 1):
        text = raw.decode("utf-8", "surrogateescape")
        mark = _mark(raw, reason) if marked < MARKED else ""
        line = Line(number, visible(text[:LINE_SHOWN]), mark)
        if mark:
            marked += 1
            kept.update((near.number, near) for near in list(recent)[-CONTEXT:])
        if mark or number <= HEAD:
            kept[number] = line
        recent.append(line)
    kept.update((line.number, line) for line in recent)
    return Excerpt(tuple(_with_gaps(kept)), number, size, unread)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while first := file.readline(LINE_BYTES):
        rest = first
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(LINE_BYTES)
        yield first.rstrip(b"\r\n")


def _mark(raw: bytes, reason: str) -> str:
    stripped = stamped(raw)
    message = (raw if stripped is None else stripped).decode("utf-8", "surrogateescape").strip()
    if len(message) >= 12 and message in reason:
        return "decided"
    return "notable" if recognise(raw) or _NOTABLE.search(raw) else ""


def _with_gaps(kept: dict[int, Line]) -> Iterator[Line]:
    before = 0
    for number in sorted(kept):
        line = kept[number]
        yield Line(number, line.text, line.mark, number - before - 1)
        before = number
