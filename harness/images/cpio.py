"""Writes archives in the "newc" format, which the kernel unpacks as its initramfs.

The format is described in the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header
of 6 bytes of magic and thirteen fields of eight hexadecimal digits, the name with its NUL, the data; name and
data are padded to 4 bytes. One file may hold several archives, each with its own trailer.

Equal entries make equal bytes: no times, no owners, inode numbers counted from one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TRAILER = "TRAILER!!!"
_MAX_SIZE = 0xFFFFFFFF


@dataclass(frozen=True)
class Entry:
    """One file, directory or symbolic link; `mode` includes the type, `name` has no leading slash."""

    name: str
    mode: int
    data: bytes = b""


def file(name: str, data: bytes, permissions: int = 0o644) -> Entry:
    """A regular file."""
    return Entry(name, stat.S_IFREG | permissions, data)


def directory(name: str, permissions: int = 0o755) -> Entry:
    """A directory."""
    return Entry(name, stat.S_IFDIR | permissions)


def archive(entries: Iterable[Entry]) -> bytes:
    """All entries as one archive; see `records`."""
    return b"".join(records(entries))


def records(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The parts of one archive; missing parent directories are added before their entries.

    Raises ValueError for a name that is absolute, empty, repeated or has `..`, and for data over 4 GiB.
    """
    for inode, entry in enumerate(_with_parents(entries), start=1):
        yield _record(inode, entry)
    yield _record(0, Entry(_TRAILER, 0))


def tree(folder: Path, below: str = "") -> Iterator[Entry]:
    """The directories, files and symbolic links of a tree, each after its parent, named below `below`."""
    for path in sorted(folder.rglob("*")):
        name = f"{below}{path.relative_to(folder)}"
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield Entry(name, mode, os.fsencode(path.readlink()))
        elif stat.S_ISDIR(mode):
            yield Entry(name, mode)
        elif stat.S_ISREG(mode):
            yield Entry(name, mode, path.read_bytes())


def _with_parents(entries: Iterable[Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    for entry in entries:
        components = _components(entry.name)
        for depth in range(1, len(components)):
            parent = "/".join(components[:depth])
            if parent not in seen:
                seen.add(parent)
                yield directory(parent)
        if entry.name in seen:
            raise ValueError(f"{entry.name!r} is in the archive twice")
        seen.add(entry.name)
        yield entry


def _components(name: str) -> list[str]:
    components = name.split("/")
    if name == _TRAILER or "\0" in name or any(part in ("", ".", "..") for part in components):
        raise ValueError(f"{name!r} is not a valid name in an initramfs")
    return components


def _record(inode: int, entry: Entry) -> bytes:
    if len(entry.data) > _MAX_SIZE:
        raise ValueError(f"{entry.name!r} is over 4 GiB")
    name = os.fsencode(entry.name) + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # inode, mode, uid, gid, nlink, mtime, filesize, device (2), rdev (2), namesize, check
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _padded(header + name) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
