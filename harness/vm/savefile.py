"""libvirt's save file: a header, the domain's XML, then QEMU's stream of memory and devices.

Only the stream is kept, compressed. A domain may be restored under another name, port and set of keys than it
was saved with, so the rest is made anew each time and fed to libvirt through a pipe: nothing is copied, and
any number of processes can read one file. The layout is that of libvirt's src/qemu/qemu_saveimage.h.
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
# magic; version, bytes of XML, whether it ran, compression (none), where a cookie starts (none); unused
_HEADER = struct.Struct("=16s5I56x")

# The first level: what the others save does not pay for the time, which is what a restore is about.
_LEVEL = 1
_CHUNK = 1 << 20
_POLL_S = 0.01


def pack(saved: Path, target: Path) -> None:
    """Writes the stream of a save file to `target`, compressed. Raises OSError, ValueError."""
    with saved.open("rb") as source, target.open("wb") as packed:
        header = source.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise ValueError("libvirt saved something else than expected")
        source.seek(_HEADER.unpack(header)[2], os.SEEK_CUR)
        with zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).stream_writer(packed) as stream:
            shutil.copyfileobj(source, stream, _CHUNK)


@contextlib.contextmanager
def fed(packed: Path, xml: str, pipe: Path) -> Iterator[None]:
    """For the block, `pipe` is a save file of `xml` with that stream. A damaged one just ends early."""
    os.mkfifo(pipe, 0o600)
    # Both ends are open from the start, so that neither side waits in open(2) for one that will not come.
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    feeding = _Feeding(packed, xml, pipe.open("wb", buffering=0))
    feeding.start()
    try:
        yield
    finally:
        feeding.over.set()
        # Now nobody reads, so that a feeder which still writes is told so and ends.
        os.close(held)
        feeding.join()
        pipe.unlink()


class _Feeding(threading.Thread):
    """Writes a save file into a pipe; `over` says that nobody wants more of it."""

    def __init__(self, packed: Path, xml: str, out: BinaryIO) -> None:
        super().__init__(name="restore", daemon=True)
        self.over = threading.Event()
        self._packed = packed
        self._xml = xml
        self._out = out

    def run(self) -> None:
        """Writes it; who reads it finds out by itself when it is cut."""
        with contextlib.suppress(OSError), self._out as out:
            with contextlib.suppress(zstandard.ZstdError):
                self._write()
            # A pipe that was written and closed before it is opened would never open.
            while _unread(out) and not self.over.wait(_POLL_S):
                pass

    def _write(self) -> None:
        text = self._xml.encode() + b"\0"
        self._out.write(_HEADER.pack(_MAGIC, _VERSION, len(text), 1, 0, 0) + text)
        with self._packed.open("rb") as source:
            zstandard.ZstdDecompressor().copy_stream(source, self._out, write_size=_CHUNK)


def _unread(pipe: BinaryIO) -> int:
    """How many bytes wait in a pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, count)
    return count[0]
