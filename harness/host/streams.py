"""Keeps a command running when its standard output or standard error cannot be written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast


class Steady:
    """A text stream that drops its output once its reader is gone: a closed pipe, or a terminal that hung up.

    Other errors, such as a full disk, are still raised.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = {errno.EPIPE, errno.EIO} if stream.isatty() else {errno.EPIPE}

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._drop(error)
            return len(text)

    def flush(self) -> None:
        """Flush, or drop what was not written yet."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        if error.errno not in self._gone:
            raise error
        # Text that is still buffered goes there too, also when the interpreter exits.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Make stdout and stderr steady, and replace characters that they cannot encode.

    Output to a stream that was closed when the process started is dropped.
    """
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 - a device
        sys.stdout, sys.stderr = (_made(stream, nowhere) for stream in before)
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            sys.stdout, sys.stderr = before


def _made(stream: TextIO | None, nowhere: TextIO) -> TextIO:
    if stream is None:
        return nowhere
    # Python chooses surrogateescape in the C locale, which raises for a tick as well.
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")
    return cast("TextIO", Steady(stream))
