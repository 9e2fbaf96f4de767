"""A bounded queue on disk, for matches that a collector does not accept at once.

A folder of segments, each a file of chunks:

    u32 length, u32 CRC-32 of the content, u32 matches in it      little-endian
    content

Chunks are appended to the newest segment and read from the oldest. A segment is removed when its last chunk
was read. The file `cursor`, replaced by rename, records how much of the oldest segment was read. A chunk is
on the disk when `append` returns, so neither a kill nor a power failure loses one. After either, the last
chunk read may be delivered again, because the cursor is written after the delivery. A truncated or
overwritten segment is read up to the damage, and the rest is counted. When the bound is reached, the oldest
segment is removed, and the matches in it are counted as dropped.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UsageError

MAX_BYTES = 64 << 20
SEGMENT_BYTES = 1 << 20
_HEADER = struct.Struct("<III")
_SUFFIX = ".spool"


@dataclass(slots=True, frozen=True)
class Chunk:
    """The content of one `append`, and the number of its matches."""

    content: bytes
    matches: int


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    read: int = 0  # bytes of delivered chunks
    end: int = 0  # bytes of complete chunks
    matches: int = 0  # not delivered yet


@dataclass(slots=True)
class SpoolCounters:
    """Totals since the start."""

    dropped: int = 0  # matches removed to make room, or not stored for lack of it
    corrupt_bytes: int = 0  # invalid bytes left by an earlier run


class Spool:
    """The queue in `folder`. Raises UsageError if another process uses the folder."""

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES, segment_bytes: int = SEGMENT_BYTES) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.counters = SpoolCounters()
        self._folder = folder
        self._lock = _lock(folder)
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max_bytes)
        self._segments: deque[_Segment] = deque()
        self._last_number = 0
        self._recover()

    @property
    def matches(self) -> int:
        """Matches in the queue."""
        return sum(segment.matches for segment in self._segments)

    @property
    def size(self) -> int:
        """Bytes of the queue on the disk."""
        return sum(segment.end for segment in self._segments)

    def append(self, chunk: Chunk) -> bool:
        """Store a chunk. Return False and count it as dropped if it is too large or the disk is full."""
        data = _HEADER.pack(len(chunk.content), zlib.crc32(chunk.content), chunk.matches) + chunk.content
        if len(data) > self._segment_bytes:
            self.counters.dropped += chunk.matches
            return False
        self._make_room(len(data))
        try:
            self._write(data)
        except OSError:
            self.counters.dropped += chunk.matches
            return False
        self._segments[-1].matches += chunk.matches
        return True

    def peek(self) -> Chunk | None:
        """Return the oldest chunk, which stays until `pop`, or None."""
        while self._segments:
            segment = self._segments[0]
            chunk = next(_chunks(segment.path, segment.read, segment.end), None)
            if chunk is not None:
                return chunk
            # Another process has damaged a segment that was complete.
            self.counters.dropped += segment.matches
            self._drop_oldest()
        return None

    def pop(self) -> None:
        """Remove the chunk that `peek` returned, because it was delivered."""
        chunk = self.peek()
        if chunk is None:
            return
        segment = self._segments[0]
        segment.read += _HEADER.size + len(chunk.content)
        segment.matches -= chunk.matches
        if segment.read >= segment.end:
            self._drop_oldest()
        else:
            self._write_cursor(segment)

    def close(self) -> None:
        """Release the folder for other processes."""
        os.close(self._lock)

    def _write(self, data: bytes) -> None:
        segment = self._newest(len(data))
        fresh = segment.end == 0
        fd = os.open(segment.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            # Append after the last complete chunk, so that a partial one left by a full disk is overwritten.
            _write_all(fd, data, segment.end)
            os.fdatasync(fd)
        finally:
            os.close(fd)
        if fresh:
            _sync_folder(self._folder)
        segment.end += len(data)

    def _newest(self, size: int) -> _Segment:
        if not self._segments or self._segments[-1].end + size > self._segment_bytes:
            self._last_number += 1
            path = self._folder / f"{self._last_number:012d}{_SUFFIX}"
            self._segments.append(_Segment(self._last_number, path))
        return self._segments[-1]

    def _make_room(self, size: int) -> None:
        while self._segments and self.size + size > self._max_bytes:
            self.counters.dropped += self._segments[0].matches
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._segments.popleft().path.unlink(missing_ok=True)

    def _write_cursor(self, segment: _Segment) -> None:
        fresh = self._folder / "cursor.new"
        # Without the cursor a chunk is delivered again, which is better than a failing sink.
        with suppress(OSError):
            fresh.write_text(f"{segment.number} {segment.read}\n", "ascii")
            fresh.replace(self._folder / "cursor")

    def _recover(self) -> None:
        number, read = self._cursor()
        self._last_number = number  # not reused: the cursor may still name it
        for path in sorted(self._folder.glob(f"[0-9]*[0-9]{_SUFFIX}")):
            segment = _Segment(int(path.stem), path)
            self._last_number = max(self._last_number, segment.number)
            self._measure(segment, read if segment.number == number else 0)
            if segment.end > segment.read:
                self._segments.append(segment)
            else:
                path.unlink(missing_ok=True)

    def _measure(self, segment: _Segment, read: int) -> None:
        for chunk in _chunks(segment.path, 0, 1 << 62):
            segment.end += _HEADER.size + len(chunk.content)
            if segment.end <= read:
                segment.read = segment.end
            else:
                segment.matches += chunk.matches
        rest = segment.path.stat().st_size - segment.end
        if rest:
            self.counters.corrupt_bytes += rest
            os.truncate(segment.path, segment.end)

    def _cursor(self) -> tuple[int, int]:
        try:
            number, read = (self._folder / "cursor").read_text("ascii").split()
            return int(number), int(read)
        except (OSError, ValueError):
            return 0, 0


def _chunks(path: Path, start: int, end: int) -> Iterator[Chunk]:
    """Yield the complete chunks of a file from `start`, up to the first damaged one."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(start)
        while start + _HEADER.size <= end:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return
            length, checksum, matches = _HEADER.unpack(header)
            # A chunk is never empty: after a power failure, file systems may return zeros for lost data.
            if not length or length > min(end - start, os.fstat(file.fileno()).st_size):
                return
            content = file.read(length)
            if len(content) < length or zlib.crc32(content) != checksum:
                return
            start += _HEADER.size + length
            yield Chunk(content, matches)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(folder: Path) -> int:
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise UsageError(
            f"spool {folder} is in use by another agent", hint="give each agent a spool of its own"
        ) from None
    return fd
