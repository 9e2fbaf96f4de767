"""A kernel of the user on its way from the cache of one host to that of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InfrastructureError
from harness.host.cache import Cache
from harness.kernels.model import ResolvedKernel
from harness.lab import taken

KERNEL = ResolvedKernel("own", "", "6.12.0-own", "amd64", "", (), "image", "key")


def _fill(folder: Path) -> None:
    (folder / "lib/modules/6.12.0-own").mkdir(parents=True)
    (folder / "lib/modules/6.12.0-own/modules.dep").write_text("dep")
    (folder / "vmlinuz").write_bytes(b"image")


def test_the_same_files_arrive_under_the_same_key(tmp_path: Path) -> None:
    ours, theirs = Cache(tmp_path / "ours"), Cache(tmp_path / "theirs")
    ours.get("kernels", "key", _fill)
    taken.pack(KERNEL, ours, tmp_path / "one.tar")
    taken.pack(KERNEL, ours, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    taken.adopt(KERNEL, tmp_path / "one.tar", theirs)
    content = tmp_path / "theirs/kernels/key/content"
    assert (content / "vmlinuz").read_bytes() == b"image"
    assert (content / "lib/modules/6.12.0-own/modules.dep").read_text() == "dep"


def test_a_damaged_archive_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bad.tar").write_bytes(b"x" * 5000)
    with pytest.raises(InfrastructureError, match="cannot be unpacked"):
        taken.adopt(KERNEL, tmp_path / "bad.tar", Cache(tmp_path / "theirs"))
    assert not Cache(tmp_path / "theirs").has("kernels", "key")
