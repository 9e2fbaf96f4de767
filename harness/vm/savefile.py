"""libvirt's save file: a header, the domain's XML, then QEMU's stream of memory and devices.

Only the stream is kept, compressed. A domain may be restored under another name, port and set of keys than it
was saved with, so the rest is made anew each time and fed to libvirt through a pipe: nothing is copied, and
any number of processes can read one file. The layout is that of libvirt's src/qemu/qemu_saveimage.h.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import zstandard

_MAGIC = b"LibvirtQemudSave"
_VERSION = 2
# magic; version, bytes of XML, whether it ran, compression (none), where a cookie starts (none); unused
_HEADER = struct.Struct("=16s5I56x")

# The first level: what the others save does not pay for the time, which is what a restore is about.
_LEVEL = 1
_CHUNK = 1 << 20


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
    feeder = threading.Thread(target=_feed, args=(packed, xml, pipe), name="restore", daemon=True)
    feeder.start()
    try:
        yield
    finally:
        # If nobody opened it, the feeder still waits for that; from now on it writes to nobody and ends.
        os.close(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK))
        feeder.join()
        pipe.unlink()


def _feed(packed: Path, xml: str, pipe: Path) -> None:
    text = xml.encode() + b"\0"
    # Who reads it finds out by itself that the stream is cut.
    with contextlib.suppress(OSError, zstandard.ZstdError), pipe.open("wb", buffering=0) as out:
        out.write(_HEADER.pack(_MAGIC, _VERSION, len(text), 1, 0, 0) + text)
        with packed.open("rb") as source:
            zstandard.ZstdDecompressor().copy_stream(source, out, write_size=_CHUNK)
