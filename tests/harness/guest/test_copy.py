"""A file that is copied out of a guest is bounded, whatever size the guest reports."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.guest import ssh
from harness.guest.base import GuestFileError


class Endless(io.RawIOBase):
    """A file such as /dev/zero."""

    def read(self, size: int = -1) -> bytes:
        """Return as much as is asked for."""
        return bytes(size)


def test_a_file_without_end_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit, which is in the message; a file below it is copied."""
    monkeypatch.setattr(ssh, "MAX_FILE", 1 << 20)
    with pytest.raises(GuestFileError, match="/dev/zero is larger than 1 MiB"):
        ssh._copy("/dev/zero", Endless(), tmp_path / "zero")  # type: ignore[arg-type]
    ssh._copy("/a", io.BytesIO(b"data"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"data"
