"""Writes matches as JSON Lines to a file or to stdout.

The file may be renamed or removed at any time: before each write the sink checks that its path still leads to
the open file. A full disk leaves no partial line: the sink truncates it, or, where that is impossible, starts
the next line with a newline.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from agent.sinks.base import NO_SPACE, Match, SinkCounters

MODE = 0o640  # matches reveal what users do with their files
_RETRY_S = 1.0
_IDLE_S = 3600.0


class _Target:
    """A file descriptor to which whole lines are appended."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self._owed = self._missing_newline()  # to write first: the rest of a partial line

    def append(self, lines: Sequence[bytes]) -> int:
        """Append lines and return how many were written. Raises OSError only if none was."""
        data = self._owed + b"\n".join((*lines, b""))
        written, error = self._write(data)
        if written < len(self._owed):
            self._owed = self._owed[written:]
            taken = 0
        else:
            taken = data.count(b"\n", len(self._owed), written) + self._end_line(data, written)
        if error is not None and not taken:
            raise error
        return taken

    def _write(self, data: bytes) -> tuple[int, OSError | None]:
        view = memoryview(data)
        written = 0
        while written < len(view):
            try:
                written += os.write(self.fd, view[written:])
            except OSError as error:
                return written, error
        return written, None

    def _end_line(self, data: bytes, written: int) -> int:
        """Handle a partial last line: return 1 if its rest is written next, 0 if it must be repeated."""
        torn = written - (data.rfind(b"\n", 0, written) + 1)
        self._owed = b""
        if not torn:
            return 0
        if self._regular:
            self._owed = self._cut(torn)
            return 0
        self._owed = data[written : data.index(b"\n", written) + 1]
        return 1

    def _cut(self, length: int) -> bytes:
        try:
            os.ftruncate(self.fd, os.fstat(self.fd).st_size - length)
        except OSError:
            return b"\n"
        return b""

    def _missing_newline(self) -> bytes:
        """Return a newline if a killed agent left a partial line, else b""."""
        size = os.fstat(self.fd).st_size if self._regular else 0
        try:
            return b"\n" if size and os.pread(self.fd, 1, size - 1) != b"\n" else b""
        except OSError:  # stdout may be open for writing only
            return b""


class JsonlSink:
    """Appends each match as a line to `path`, or to stdout if it is None.

    Raises OSError if the file cannot be opened for another reason than a full disk.
    """

    def __init__(self, path: Path | None) -> None:
        self.name = "stdout" if path is None else "file"
        self.counters = SinkCounters()
        self.linger_s = 0.0
        self._failed = False
        self._path = path
        self._target: _Target | None = None
        try:
            self._target = self._open()
        except OSError as error:
            # The disk may have space later; the agent must evaluate events until then.
            if error.errno not in NO_SPACE:
                raise
            self.counters.errors += 1

    def write(self, matches: Sequence[Match]) -> int:
        """Write matches in order, as many as the file accepts."""
        try:
            written = self._current().append([match.line for match in matches])
        except OSError:
            self.counters.errors += 1
            self._failed = True
            return 0
        self._failed = False
        self.counters.delivered += written
        return written

    def tick(self) -> None:
        """Do nothing: this sink has no deferred work."""

    @property
    def retry_s(self) -> float:
        """Short after a failed attempt, else long."""
        return _RETRY_S if self._failed else _IDLE_S

    def reopen(self) -> None:
        """Open the path again, even if it leads to the same file."""
        if self._path is not None:
            self._release()

    def close(self) -> None:
        """Flush the file to the disk and close it."""
        if self._target is not None and self._path is not None:
            try:
                os.fsync(self._target.fd)
            except OSError:  # a pipe, or a full disk
                self.counters.errors += 1
            self._release()

    def status(self) -> dict[str, int]:
        """Return no numbers in addition to the counters."""
        return {}

    def _current(self) -> _Target:
        if self._target is not None and self._moved(self._target.fd):
            self._release()
        if self._target is None:
            self._target = self._open()
        return self._target

    def _moved(self, fd: int) -> bool:
        if self._path is None:
            return False
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(fd))
        except FileNotFoundError:
            return True

    def _open(self) -> _Target:
        if self._path is None:
            return _Target(1)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return _Target(os.open(self._path, flags, MODE))

    def _release(self) -> None:
        if self._target is not None:
            os.close(self._target.fd)
            self._target = None
