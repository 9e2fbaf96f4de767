"""Reads regular files that a user names, with a limit of their size, and writes files whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from harness.errors import ConfigError
from harness.host import private


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read.

    Raises OSError, also for a FIFO, a device or a directory: reading them could block or never end.
    """
    # O_NONBLOCK: opening a FIFO would wait for a writer.
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes. Raises OSError, with EFBIG for a longer one."""
    with open_regular(path) as file:
        return read_up_to(file, path, limit)


def read_input(path: Path, limit: int) -> bytes:
    """Read a regular file of at most `limit` bytes that says what the harness does.

    Raises ConfigError if another user can change it, and OSError, with EFBIG for a longer one.
    """
    with open_regular(path) as file:
        private.check_input(path, file.fileno())
        return read_up_to(file, path, limit)


def read_up_to(file: BinaryIO, path: Path, limit: int) -> bytes:
    """Read the open file `path` of at most `limit` bytes. Raises OSError, with EFBIG for a longer one."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(path, limit)
    return data


def lines_up_to(file: BinaryIO, path: Path, limit: int) -> Iterator[bytes]:
    """Yield the lines of the open file `path` of at most `limit` bytes. Raises OSError as `read_up_to`."""
    left = limit
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise _too_large(path, limit)
        yield line


def _too_large(path: Path, limit: int) -> OSError:
    size = f"{limit >> 20} MiB" if limit >> 20 else f"{limit >> 10} KiB"
    return OSError(errno.EFBIG, f"larger than {size}", str(path))


def write_atomic(path: Path, text: str | Iterable[str]) -> None:
    """Write `text`, or its parts, atomically: a reader sees the old or the new file, never a part of one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            if path.is_file():
                os.fchmod(file.fileno(), stat.S_IMODE(path.stat().st_mode))
            file.writelines([text] if isinstance(text, str) else text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = str(path)  # the name that the user knows
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_output(path: Path, text: str) -> None:
    """Write a file that the user named, and the folders above it. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: cannot be written: {path.parent} is not a folder") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
