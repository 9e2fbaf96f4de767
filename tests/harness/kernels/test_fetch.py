"""Taking a kernel out of unpacked packages: both layouts, all compressions."""

from __future__ import annotations

import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from harness.errors import InfrastructureError
from harness.kernels import fetcher, unpack
from harness.kernels.model import Package, ResolvedKernel

RELEASE = "6.1.0-1-cloud-amd64"
MODULE = b"\x7fELF a module"

needs_depmod = pytest.mark.skipif(shutil.which("depmod") is None, reason="the package kmod is not installed")


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def old_layout(tree: Path) -> None:
    put(tree / f"boot/vmlinuz-{RELEASE}", b"kernel")
    put(tree / f"boot/config-{RELEASE}", b"CONFIG_BPF=y")
    put(tree / f"lib/modules/{RELEASE}/kernel/a.ko", MODULE)


def new_layout(tree: Path) -> None:
    put(tree / f"usr/lib/modules/{RELEASE}/vmlinuz", b"kernel")
    put(tree / f"usr/lib/modules/{RELEASE}/config", b"CONFIG_BPF=y")
    put(tree / f"usr/lib/modules/{RELEASE}/kernel/a.ko.xz", lzma.compress(MODULE))


@needs_depmod
@pytest.mark.parametrize("layout", [old_layout, new_layout])
def test_both_layouts_give_the_same_files(tmp_path: Path, layout: Callable[[Path], None]) -> None:
    tree, folder = tmp_path / "tree", tmp_path / "folder"
    folder.mkdir()
    layout(tree)
    unpack.take(tree, RELEASE, folder)
    assert (folder / "vmlinuz").read_bytes() == b"kernel"
    assert (folder / "config").read_bytes() == b"CONFIG_BPF=y"
    modules = folder / "lib/modules" / RELEASE
    assert (modules / "kernel/a.ko").read_bytes() == MODULE
    assert "kernel/a.ko" in (modules / "modules.dep").read_text()


@needs_depmod
def test_only_the_modules_of_the_guest_are_kept(tmp_path: Path) -> None:
    tree, folder = tmp_path / "tree", tmp_path / "folder"
    folder.mkdir()
    old_layout(tree)
    for name in ("net/veth.ko", "net/ethernet/card.ko", "sound/card.ko"):
        put(tree / f"lib/modules/{RELEASE}/kernel/{name}", MODULE)
    unpack.take(tree, RELEASE, folder, ["kernel/a.ko", "kernel/net/*.ko*", "kernel/not-there"])
    assert sorted(path.name for path in folder.rglob("*.ko")) == ["a.ko", "veth.ko"]


def test_packages_without_a_kernel_are_refused(tmp_path: Path) -> None:
    put(tmp_path / f"tree/lib/modules/{RELEASE}/kernel/a.ko", MODULE)
    with pytest.raises(InfrastructureError, match=r"the packages hold no .*vmlinuz"):
        unpack.take(tmp_path / "tree", RELEASE, tmp_path)


def test_modules_are_decompressed_from_each_compression(tmp_path: Path) -> None:
    put(tmp_path / "a.ko", MODULE)
    put(tmp_path / "b.ko.xz", lzma.compress(MODULE))
    put(tmp_path / "c/c.ko.zst", zstandard.compress(MODULE))
    unpack.decompress(tmp_path)
    assert [path.name for path in sorted(tmp_path.rglob("*.ko*"))] == ["a.ko", "b.ko", "c.ko"]
    assert {path.read_bytes() for path in tmp_path.rglob("*.ko")} == {MODULE}


def test_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a.ko.new", MODULE)
    with pytest.raises(InfrastructureError, match=r"a.ko.new: unknown compression"):
        unpack.decompress(tmp_path)


def test_another_package_than_the_resolved_one_is_refused(tmp_path: Path) -> None:
    package = Package("linux-image", "1", "0" * 64, 3, "pool/linux-image.deb")
    put(tmp_path / "linux-image.deb", b"bad")
    with pytest.raises(InfrastructureError, match="linux-image: the fetched package is not the resolved one"):
        fetcher.verify(ResolvedKernel("k", "6.1", RELEASE, "amd64", "bookworm", (package,)), tmp_path)
