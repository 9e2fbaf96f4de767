"""Bounds what the headers of a hostile tar archive can make Python's reader keep in memory.

The reader checks nothing before it reads the content of an extended header into memory, keeps global headers
and those of each member, and calls itself for each header that follows another one.
"""

from __future__ import annotations

import tarfile
from typing import Self

MAX_HEADERS = 64 << 20  # bytes of all extended headers of an archive
_EXTENDED = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)


def members(limit: int = MAX_HEADERS) -> type[tarfile.TarInfo]:
    """Return a class of members for `tarfile.open(tarinfo=...)`, for one archive.

    The reader then raises tarfile.ReadError beyond the limit, and for sparse files, whose maps have none. It
    still raises RecursionError for many headers in a row, and ValueError for numbers that are none.
    """
    left = limit

    class Member(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
            nonlocal left
            member = super().frombuf(buf, encoding, errors)
            if member.type in _EXTENDED:
                left -= abs(member.size)
            if left < 0:
                raise tarfile.ReadError(f"more than {limit >> 20} MiB of headers")
            if member.type == tarfile.GNUTYPE_SPARSE:
                raise tarfile.ReadError("it has a sparse file")
            return member

        def _proc_gnusparse_10(self, *_: object) -> None:
            """Refuse the sparse files that `frombuf` cannot know: the reader calls this for their map."""
            raise tarfile.ReadError("it has a sparse file")

    return Member
