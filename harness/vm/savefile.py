"""Reads and writes libvirt's save files: a header, the domain's XML, then QEMU's stream of the memory.

Only the stream is stored, compressed. A domain is restored under another name, port and set of keys than
it was saved with, so header and XML are made anew each time. libvirt reads all from a pipe: nothing is
copied, and any number of processes can read one file. The layout is that of libvirt's
src/qemu/qemu_saveimage.h.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import shutil
import struct
import termios
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

_MAGIC = b"LibvirtQemudSave"
_VERSION = 2
# magic; version, bytes of XML, whether the domain ran, compression (none), offset of a cookie (none); unused
_HEADER = struct.Struct("=16s5I56x")

# The fastest level: the others make a restore slower and save little.
_LEVEL = 1
_CHUNK = 1 << 20
_POLL_S = 0.01


def pack(saved: Path, target: Path) -> None:
    """Write the stream of a save file to `target`, compressed. Raises OSError, ValueError."""
    with saved.open("rb") as source, target.open("wb") as packed:
        header = source.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise ValueError(f"{saved} is not a save file of libvirt")
        source.seek(_HEADER.unpack(header)[2], os.SEEK_CUR)
        with zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(packed) as stream:
            shutil.copyfileobj(source, stream, _CHUNK)


@contextlib.contextmanager
def fed(packed: Path, xml: str, pipe: Path) -> Iterator[None]:
    """Make `pipe` a save file of `xml` with that stream for the block. A damaged stream ends early."""
    os.mkfifo(pipe, 0o600)
    # Both ends are open from the start, so that no side blocks in open(2) if the other does not open it.
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    feeding = _Feeding(packed, xml, pipe.open("wb", buffering=0))
    feeding.start()
    try:
        yield
    finally:
        feeding.over.set()
        # Without a reader, the thread gets an error if it is still writing, and ends.
        os.close(held)
        feeding.join()
        pipe.unlink()


class _Feeding(threading.Thread):
    """Writes a save file into a pipe; `over` is set when the reader needs no more."""

    def __init__(self, packed: Path, xml: str, out: BinaryIO) -> None:
        super().__init__(name="restore", daemon=True)
        self.over = threading.Event()
        self._packed = packed
        self._xml = xml
        self._out = out

    def run(self) -> None:
        """Write the save file; libvirt notices by itself if it ends early."""
        with contextlib.suppress(OSError), self._out as out:
            with contextlib.suppress(zstandard.ZstdError):
                self._write()
            # If the pipe were closed before libvirt opens it, libvirt would wait for ever.
            while _unread(out) and not self.over.wait(_POLL_S):
                pass

    def _write(self) -> None:
        text = self._xml.encode() + b"\0"
        self._out.write(_HEADER.pack(_MAGIC, _VERSION, len(text), 1, 0, 0) + text)
        with self._packed.open("rb") as source:
            zstandard.ZstdDecompressor().copy_stream(source, self._out, write_size=_CHUNK)


def _unread(pipe: BinaryIO) -> int:
    """Return the number of unread bytes in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
