"""Reads rpm's database: which package a file belongs to, and its digest.

The database is SQLite, as rpm has it since 4.16; older formats have no answer. A package is a header:
numbered tags with arrays of numbers or texts. Headers come from packages, so every length in them is checked.
"""

from __future__ import annotations

import re
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from agent.context.packages import RPM_FOLDERS, Owned
from agent.rules.trust import distrust

MAX_HEADER_BYTES = 64 << 20
MAX_PACKAGES = 64  # with a file of one base name
_MARGIN_NS = 2_000_000_000  # between the clocks of events and of file systems
_NEVER = -(1 << 63)
_TEMPORARY = re.compile(rb";[0-9a-f]{8,16}$")
_NAME, _VERSION, _RELEASE = 1000, 1001, 1002
_DIGESTS, _ALGORITHM, _DIRECTORY_OF, _BASENAMES, _DIRECTORIES = 1035, 5011, 1116, 1117, 1118
_ALGORITHMS = {1: "md5", 2: "sha1", 8: "sha256", 9: "sha384", 10: "sha512", 11: "sha224"}  # RFC 9580
_INT32, _TEXT, _TEXTS, _I18N_TEXTS = 4, 6, 8, 9
_WORD = re.compile(rb"[0-9A-Za-z._+~^-]{1,128}")
_DIGEST = re.compile(rb"[0-9a-f]{32,128}")
_ENTRY = struct.Struct(">IIII")


class _Header(NamedTuple):
    """The tags of a package: type, offset and count by number, and the data that they point to."""

    tags: dict[int, tuple[int, int, int]]
    data: bytes

    def texts(self, tag: int) -> list[bytes]:
        """Return the texts of a tag. Raises ValueError if they exceed the data."""
        kind, offset, count = self.tags[tag]
        if kind not in (_TEXT, _TEXTS, _I18N_TEXTS):
            raise ValueError(f"tag {tag} has no texts")
        found = self.data[offset:].split(b"\0", count)[:count]
        if len(found) < count:
            raise ValueError(f"tag {tag} is truncated")
        return found

    def numbers(self, tag: int) -> Sequence[int]:
        """Return the 32-bit numbers of a tag. Raises struct.error if they exceed the data."""
        kind, offset, count = self.tags[tag]
        if kind != _INT32 or count > len(self.data):
            raise ValueError(f"tag {tag} has no numbers")
        return struct.unpack_from(f">{count}I", self.data, offset)


class Rpm:
    """The database in the first of `folders` that has one."""

    name = "rpm"

    def __init__(self, folders: Sequence[Path] = RPM_FOLDERS) -> None:
        self._folders = folders

    @staticmethod
    def final_name(path: bytes) -> bytes:
        """Return the path without the suffix that rpm gives a file while it unpacks."""
        return _TEMPORARY.sub(b"", path)

    def owned(self, paths: Iterable[bytes], since_ns: int) -> dict[bytes, Owned]:
        """Return those of `paths` that belong to packages, if the database has changed since then."""
        found: dict[bytes, Owned] = {}
        for file in (folder / "rpmdb.sqlite" for folder in self._folders):
            if _changed_ns(file) >= since_ns - _MARGIN_NS:
                with suppress(sqlite3.Error):
                    _look_up(file, paths, found)
        return found


def _changed_ns(file: Path) -> int:
    """Return when the database was last written; long ago without one that only root can write."""
    times = []
    for part in (file, file.with_name(f"{file.name}-wal")):
        with suppress(FileNotFoundError):
            status = part.stat()
            if distrust(status):
                return _NEVER
            times.append(status.st_mtime_ns)
    return max(times, default=_NEVER)


def _look_up(file: Path, paths: Iterable[bytes], found: dict[bytes, Owned]) -> None:
    # Without permission to write beside it, a database can only be opened as one that no process changes.
    for mode in ("mode=ro", "immutable=1"):
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{quote(str(file))}?{mode}", uri=True)) as database,
        ):
            for path in paths:
                for header in _headers(database, path.rpartition(b"/")[2]):
                    owned = _owned(header, path)
                    if owned is not None:
                        found[path] = owned
                        break
            return


def _headers(database: sqlite3.Connection, name: bytes) -> Iterator[bytes]:
    """Yield the headers of the packages with a file of this base name, the newest first."""
    query = (
        "SELECT blob FROM Packages WHERE hnum IN (SELECT hnum FROM Basenames WHERE key = CAST(? AS TEXT)) "
        "AND length(blob) <= ? ORDER BY hnum DESC LIMIT ?"
    )
    for (blob,) in database.execute(query, (name, MAX_HEADER_BYTES, MAX_PACKAGES)):
        yield blob


def _owned(blob: bytes, path: bytes) -> Owned | None:
    """Return what a header says of a path; None if it has no such file, or is damaged."""
    with suppress(ValueError, KeyError, IndexError, struct.error):
        header = _parse(blob)
        folders, of = header.texts(_DIRECTORIES), header.numbers(_DIRECTORY_OF)
        for at, base in enumerate(header.texts(_BASENAMES)):
            if folders[of[at]] + base == path:
                return _described(header, at)
    return None


def _described(header: _Header, at: int) -> Owned | None:
    digest = header.texts(_DIGESTS)[at]
    words = [header.texts(tag)[0] for tag in (_NAME, _VERSION, _RELEASE)]
    algorithm = _ALGORITHMS.get(header.numbers(_ALGORITHM)[0] if _ALGORITHM in header.tags else 1)
    if algorithm is None or not _DIGEST.fullmatch(digest) or not all(map(_WORD.fullmatch, words)):
        return None
    name, version, release = (word.decode() for word in words)
    return Owned(f"{name} {version}-{release}", algorithm, digest.decode())


def _parse(blob: bytes) -> _Header:
    """Return the header of a package. Raises ValueError or struct.error for a damaged one."""
    count, size = struct.unpack_from(">II", blob)
    start = 8 + count * _ENTRY.size
    if start + size > len(blob):
        raise ValueError("the header is truncated")
    entries = (_ENTRY.unpack_from(blob, 8 + number * _ENTRY.size) for number in range(count))
    return _Header(
        {tag: (kind, offset, length) for tag, kind, offset, length in entries}, blob[start : start + size]
    )
