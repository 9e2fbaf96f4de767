"""The bounds of the headers of tar archives."""

from __future__ import annotations

import io
import tarfile

import pytest

from harness.host import tars

END = bytes(2 * tarfile.BLOCKSIZE)


def member(name: str = "a", kind: bytes = tarfile.REGTYPE, data: bytes = b"") -> bytes:
    entry = tarfile.TarInfo(name)
    entry.type, entry.size = kind, len(data)
    padding = bytes(-len(data) % tarfile.BLOCKSIZE)
    return entry.tobuf(tarfile.USTAR_FORMAT) + data + padding


def names(archive: bytes, limit: int = tars.MAX_HEADERS) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r|", tarinfo=tars.members(limit)) as tar:
        return [entry.name for entry in tar]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_ordinary_archives_are_read(form: int) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        tar.addfile(tarfile.TarInfo("x" * 300))
        tar.addfile(tarfile.TarInfo("b"))
    assert names(stream.getvalue()) == ["x" * 300, "b"]
    assert names(stream.getvalue()) == ["x" * 300, "b"], "each archive has a limit of its own"


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_are_bounded_before_they_are_read(kind: bytes) -> None:
    """Of a huge header only its length arrives here, so a reader that wants more of it fails otherwise."""
    huge = tarfile.TarInfo("x")
    huge.type, huge.size = kind, 6 << 30
    with pytest.raises(tarfile.ReadError, match="more than 64 MiB of headers"):
        names(huge.tobuf(tarfile.GNU_FORMAT) + END)
    record = b"1011 comment=" + b"x" * 997 + b"\n"
    many = b"".join(member(kind=tarfile.XHDTYPE, data=record) + member() for _ in range(2000))
    with pytest.raises(tarfile.ReadError, match="more than 1 MiB of headers"):
        names(many + END, 1 << 20)


def test_sparse_files_are_refused() -> None:
    """Their maps are lists without a bound."""
    old = member(kind=tarfile.GNUTYPE_SPARSE)
    values = {"major": "1", "minor": "0", "name": "a", "realsize": "9"}
    entry = tarfile.TarInfo("a")
    entry.size = 6
    entry.pax_headers = {f"GNU.sparse.{name}": value for name, value in values.items()}
    new = entry.tobuf(tarfile.PAX_FORMAT) + b"1\n0\n9\n".ljust(tarfile.BLOCKSIZE, b"\0")
    for archive in (old, new):
        with pytest.raises(tarfile.ReadError, match="sparse"):
            names(archive + END)
