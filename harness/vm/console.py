"""Reads a guest's serial console as it grows, splits it into lines and searches them for trouble.

`ConsoleLog` takes bytes and does no input or output; `ConsoleFile` reads the file that QEMU writes. The guest
may be broken: its console may contain any bytes, lines without an end, and may never stop.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from harness.console.signatures import Trouble, ends_panic, recognise, stamped

READY = b"fim-init: ready"
FATAL = b"fim-init: fatal:"
_INIT = b"fim-init:"

# The console of ten thousand tests has 3 MB. A guest that prints more than this is ended, or it fills the
# disk.
MAX_BYTES = 8 << 20

_MAX_LINE = 4096
_KEPT_LINES = 5000
_MAX_SIGHTINGS = 100
_BEFORE, _AFTER = 20, 80
_CHUNK = 1 << 16


class Stage(enum.IntEnum):
    """The progress of a boot, from the console."""

    SILENT = 0
    FIRMWARE = 1
    KERNEL = 2
    INIT = 3
    READY = 4


@dataclass(frozen=True)
class Sighting:
    """Trouble in a line; `number` counts the lines of the whole console from 0."""

    trouble: Trouble
    fatal: bool
    number: int
    line: bytes


class ConsoleLog:
    """The last lines, the first sightings and the stage of a console, in bounded memory."""

    def __init__(self) -> None:
        self.stage = Stage.SILENT
        self.boots = 0  # how often the guest accepted connections
        self.sightings: list[Sighting] = []
        self.panic_ended = False
        self.init_failure = b""
        self._lines: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._count = 0
        self._partial = b""

    def feed(self, data: bytes) -> None:
        """Add the next bytes of the console."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._take(line)
        # Cut long lines: a guest that prints no newline would fill the memory.
        while len(self._partial) > _MAX_LINE:
            self._take(self._partial[:_MAX_LINE])
            self._partial = self._partial[_MAX_LINE:]

    def finish(self) -> None:
        """End the console: a rest without a newline becomes a line."""
        if self._partial:
            self._take(self._partial)
            self._partial = b""

    @property
    def fatal(self) -> Sighting | None:
        """The sighting that ended the kernel."""
        return next((sighting for sighting in self.sightings if sighting.fatal), None)

    @property
    def last_line(self) -> bytes:
        """The last line that is not empty, or b""."""
        return next((line for line in reversed(self._lines) if line.strip()), self._partial)

    def tail(self, count: int = _AFTER) -> tuple[bytes, ...]:
        """Return the last lines."""
        return tuple(self._lines)[-count:]

    def around(self, sighting: Sighting) -> tuple[bytes, ...]:
        """Return the lines around a sighting."""
        first_kept = self._count - len(self._lines)
        start = max(0, sighting.number - first_kept - _BEFORE)
        return tuple(islice(self._lines, start, start + _BEFORE + _AFTER))

    def _take(self, raw: bytes) -> None:
        line = raw[:_MAX_LINE].rstrip(b"\r")
        self.stage = max(self.stage, _stage_of(line))
        self.boots += line.startswith(READY)
        signature = recognise(line)
        if signature and (len(self.sightings) < _MAX_SIGHTINGS or (signature.fatal and not self.fatal)):
            self.sightings.append(Sighting(signature.trouble, signature.fatal, self._count, line))
        if line.startswith(FATAL):
            self.init_failure = line
        self.panic_ended = self.panic_ended or ends_panic(line)
        self._lines.append(line)
        self._count += 1


def read_all(chunks: Iterable[bytes]) -> ConsoleLog:
    """Return the log of a console that has ended."""
    log = ConsoleLog()
    for chunk in chunks:
        log.feed(chunk)
    log.finish()
    return log


class ConsoleFile:
    """The file that QEMU writes a console to, which may not exist yet. Reads at most `MAX_BYTES` of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._position = 0

    @property
    def full(self) -> bool:
        """Whether the limit was reached."""
        return self._position >= MAX_BYTES

    def new_chunks(self) -> Iterable[bytes]:
        """Yield the bytes written since the last call, up to the limit."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._position)
            while chunk := file.read(min(_CHUNK, MAX_BYTES - self._position)):
                self._position += len(chunk)
                yield chunk


def _stage_of(line: bytes) -> Stage:
    if line.startswith(READY):
        return Stage.READY
    if line.startswith(_INIT):
        return Stage.INIT
    if stamped(line) is not None:
        return Stage.KERNEL
    return Stage.FIRMWARE if line.strip() else Stage.SILENT
