"""Marks begin and end of a test in the kernel log, and keeps the messages between them."""

from __future__ import annotations

import os
from types import TracebackType

MOST_LINES = 200
RECORD_SIZE = 8192  # bytes; the kernel's own limit for a record


class KernelLog:
    """The kernel log during one test. Does nothing if this process may not open the log."""

    def __init__(self, name: str, path: str = "/dev/kmsg") -> None:
        self.lines: list[str] = []
        self._name = name
        self._path = path
        self._fd = -1

    def __enter__(self) -> KernelLog:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return self
        os.lseek(self._fd, 0, os.SEEK_END)
        self._mark("begin")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            self._mark("end")
            self._read()
            os.close(self._fd)

    def _mark(self, word: str) -> None:
        os.write(self._fd, f"agent selftest: {word} {self._name}\n".encode())

    def _read(self) -> None:
        while len(self.lines) < MOST_LINES:
            try:
                record = os.read(self._fd, RECORD_SIZE)
            except BlockingIOError:
                return
            except BrokenPipeError:
                continue  # the kernel overwrote unread records; the next read continues after them
            self.lines.append(_text_of(record))


def _text_of(record: bytes) -> str:
    """Return time in seconds and message of a record `priority,number,microseconds,flags;message`."""
    head, _, rest = record.decode("utf-8", "replace").partition(";")
    message = rest.split("\n", 1)[0]
    return f"[{int(head.split(',')[2]) / 1e6:.6f}] {message}"
