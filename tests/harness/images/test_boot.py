"""The images that a kernel boots with, made from a fake kernel."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from harness.errors import ConfigError, InfrastructureError
from harness.host import resources
from harness.host.cache import Cache
from harness.host.progress import Event
from harness.images import RootImage, cpio, erofs, initramfs, modules_image, native
from harness.kernels import FetchedKernel, Headers, catalogue
from tests.harness.images.test_cpio import unpack

HOST_CAN_COMPILE = shutil.which(catalogue.architecture("amd64").compiler) is not None

needs_compiler = pytest.mark.skipif(not HOST_CAN_COMPILE, reason="no compiler for amd64")
needs_erofs = pytest.mark.skipif(shutil.which("mkfs.erofs") is None, reason="erofs-utils is not installed")


@pytest.fixture
def kernel(tmp_path: Path) -> FetchedKernel:
    modules = tmp_path / "lib/modules/6.1.0"
    (modules / "kernel").mkdir(parents=True)
    names = ("virtio_pci", "virtio_blk", "virtio_net", "erofs")
    for name in names:
        (modules / f"kernel/{name}.ko").write_bytes(name.encode())
    (modules / "modules.dep").write_text("".join(f"kernel/{name}.ko:\n" for name in names))
    (modules / "modules.builtin").write_text("kernel/fs/overlayfs/overlay.ko\n")
    return FetchedKernel("k", "6.1.0", "amd64", (), tmp_path / "vmlinuz", modules, None, "digest")


@needs_compiler
def test_the_initramfs_has_init_and_the_modules_that_are_not_built_in(
    kernel: FetchedKernel, tmp_path: Path
) -> None:
    entries = {
        entry.name: entry for entry in unpack(initramfs(kernel, Cache(tmp_path / "cache")).read_bytes())
    }
    assert entries["init"].data[:4] == b"\x7fELF"
    assert entries["init"].mode & 0o111
    assert entries["modules"].data.decode().split() == [
        f"/modules.d/{name}.ko" for name in ("virtio_pci", "virtio_blk", "virtio_net", "erofs")
    ]
    assert entries["modules.d/erofs.ko"].data == b"erofs"
    assert entries["upper/usr/sbin/fim-init"].data[:4] == b"\x7fELF"
    assert entries["upper/etc/ssh/sshd_config"].data == (resources.FOLDER / "sshd_config").read_bytes()


@needs_compiler
def test_an_initramfs_is_made_once_for_each_kernel(kernel: FetchedKernel, tmp_path: Path) -> None:
    lines: list[Event] = []
    paths = {initramfs(kernel, Cache(tmp_path / "cache"), lines.append) for _ in range(2)}
    assert len(paths) == len(lines) == 1


@needs_compiler
def test_a_kernel_without_a_driver_for_the_root_is_an_error(kernel: FetchedKernel, tmp_path: Path) -> None:
    (kernel.modules / "modules.dep").write_text("")
    with pytest.raises(InfrastructureError, match="no module virtio_pci"):
        initramfs(kernel, Cache(tmp_path / "cache"))


@needs_compiler
def test_an_initramfs_that_holds_the_root(kernel: FetchedKernel, tmp_path: Path) -> None:
    """For a kernel that cannot mount disks: the root, then the harness's own files, then the modules."""
    (kernel.modules / "modules.dep").write_text("kernel/virtio_pci.ko:\n")
    (kernel.modules / "modules.builtin").write_text("kernel/virtio_blk.ko\nkernel/virtio_net.ko\n")
    (tmp_path / "tree/etc/ssh").mkdir(parents=True)
    (tmp_path / "tree/etc/ssh/sshd_config").write_text("the package's")
    (tmp_path / "tree/bin").symlink_to("usr/bin")
    archive = tmp_path / "root.cpio"
    archive.write_bytes(cpio.archive(cpio.tree(tmp_path / "tree")))
    root = RootImage(archive, "digest", ())
    found = initramfs(kernel, Cache(tmp_path / "cache"), root=root).read_bytes()
    end = cpio.archive([])  # of each archive; later ones replace files of earlier ones
    parts = [unpack(part + end) for part in found.split(end)[:-1]]
    entries = {entry.name: entry for part in parts for entry in part}
    assert entries["modules"].data == b"/modules.d/virtio_pci.ko\n"
    assert entries["bin"].data == b"usr/bin"
    assert entries["usr/sbin/fim-init"].data[:4] == b"\x7fELF"
    assert entries["etc/ssh/sshd_config"].data == (resources.FOLDER / "sshd_config").read_bytes()
    assert entries["usr/lib/modules/6.1.0/kernel/virtio_pci.ko"].data == b"virtio_pci"
    assert not any(name.startswith("upper") for name in entries)


@needs_erofs
def test_the_modules_disk_has_the_mark_that_the_guest_looks_for(
    kernel: FetchedKernel, tmp_path: Path
) -> None:
    image = modules_image(kernel, Cache(tmp_path / "cache")).read_bytes()
    assert image[1024 + 48 : 1024 + 64] == b"fim-harness-mods"


@needs_erofs
def test_headers_are_on_the_modules_disk(kernel: FetchedKernel, tmp_path: Path) -> None:
    """A disk without headers is another image, which does not change."""
    folder = tmp_path / "headers"
    for name in ("build", "source"):
        (folder / name).mkdir(parents=True)
        (folder / name / "fs.h").write_text(f"/* of {name} */")
    store = Cache(tmp_path / "cache")
    plain = modules_image(kernel, store)
    image = modules_image(kernel, store, headers=Headers(folder, (), "d"))
    assert image != plain
    assert all(text in image.read_bytes() for text in (b"/* of build */", b"/* of source */"))
    assert b"/* of build */" not in plain.read_bytes()
    assert modules_image(kernel, store) == plain


@needs_erofs
def test_the_same_tree_makes_the_same_image(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub/file").write_bytes(b"data" * 5000)
        erofs.make(tmp_path / f"{name}.erofs", tmp_path / name, erofs.ROOT, compressed=True)
    assert (tmp_path / "a.erofs").read_bytes() == (tmp_path / "b.erofs").read_bytes()


@pytest.mark.parametrize("role", [erofs.ROOT, erofs.MODULES])
def test_host_and_guest_use_the_same_names_of_disks(role: uuid.UUID) -> None:
    assert f'"{role.bytes.decode()}"' in (resources.FOLDER / "early-init.c").read_text()


def test_the_error_of_a_missing_compiler_names_its_package(tmp_path: Path) -> None:
    arch = catalogue.Architecture(
        "mips", "mips-gcc-that-is-not-there", "gcc-mips", "qemu-system-mips", "qemu-mips"
    )
    with pytest.raises(InfrastructureError, match="mips-gcc-that-is-not-there is not installed") as caught:
        native.compile_static(tmp_path / "x.c", arch)
    assert "gcc-mips" in caught.value.hint


def test_an_unknown_architecture_is_an_error_of_the_matrix() -> None:
    with pytest.raises(ConfigError, match="unknown architecture 'm68k'"):
        catalogue.architecture("m68k")
