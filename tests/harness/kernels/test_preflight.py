"""What a kernel lacks to be a guest, by its configuration and modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import UnsuitableKernelError
from harness.kernels import FetchedKernel, preflight
from harness.kernels.preflight import DISK, GUEST, Root

ALL = {need.option: "y" for need in (*GUEST, *DISK)}


def kernel(folder: Path, options: dict[str, str] | None, *modules: str, arch: str = "amd64") -> FetchedKernel:
    for name in modules:
        place = folder / f"modules/kernel/{name}.ko"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    config = None
    if options is not None:
        config = folder / "config"
        config.write_text("".join(f"CONFIG_{name}={value}\n" for name, value in options.items()))
    return FetchedKernel("own", "6.12.0", arch, (), folder / "vmlinuz", folder / "modules", config, "digest")


def test_a_kernel_with_everything_has_its_root_on_a_disk(tmp_path: Path) -> None:
    """Built in, or as modules that exist; a module's file may be named with dashes."""
    assert preflight.check(kernel(tmp_path, ALL)) is Root.DISK
    asked = ALL | {"VIRTIO_NET": "m", "EROFS_FS": "m"}
    assert preflight.check(kernel(tmp_path, asked, "virtio-net", "erofs")) is Root.DISK


@pytest.mark.parametrize("option", [need.option for need in DISK])
def test_a_kernel_that_cannot_mount_the_disk_has_its_root_in_memory(tmp_path: Path, option: str) -> None:
    assert preflight.check(kernel(tmp_path, {name: "y" for name in ALL if name != option})) is Root.MEMORY


def test_a_file_system_whose_module_is_absent(tmp_path: Path) -> None:
    """Is one that the kernel lacks, as without module loading."""
    assert preflight.check(kernel(tmp_path, ALL | {"OVERLAY_FS": "m"})) is Root.MEMORY


def test_what_a_kernel_lacks_is_said_as_options(tmp_path: Path) -> None:
    """All at once, with the command that sets them."""
    options = {name: "y" for name in ALL if name not in ("DEVTMPFS", "VIRTIO_BLK")}
    with pytest.raises(UnsuitableKernelError) as caught:
        preflight.check(kernel(tmp_path, options))
    assert "CONFIG_DEVTMPFS (/dev), CONFIG_VIRTIO_BLK (disks)" in caught.value.message
    assert caught.value.hint.startswith("scripts/config -e DEVTMPFS -e VIRTIO_BLK && make olddefconfig")


def test_a_module_that_was_not_installed(tmp_path: Path) -> None:
    with pytest.raises(UnsuitableKernelError, match=r"lacks the module virtio_net \(network\)") as caught:
        preflight.check(kernel(tmp_path, ALL | {"VIRTIO_NET": "m"}))
    assert "modules_install" in caught.value.hint


def test_an_option_of_another_architecture(tmp_path: Path) -> None:
    """An amd64 kernel has no console of arm64, and the other way round."""
    options = {name: "y" for name in ALL if name != "SERIAL_AMBA_PL011_CONSOLE"}
    assert preflight.check(kernel(tmp_path, options)) is Root.DISK
    with pytest.raises(UnsuitableKernelError, match="CONFIG_SERIAL_AMBA_PL011_CONSOLE"):
        preflight.check(kernel(tmp_path, options, arch="arm64"))


def test_a_kernel_without_a_configuration_is_not_judged(tmp_path: Path) -> None:
    """What is no module is assumed to be built in."""
    assert preflight.check(kernel(tmp_path, None)) is Root.DISK
    assert set(preflight.built_in("", ["erofs"])) == {"virtio_pci", "virtio_blk", "virtio_net", "overlay"}
    assert list(preflight.built_in("CONFIG_EROFS_FS=y\nCONFIG_OVERLAY_FS=m\n", [])) == ["erofs"]
