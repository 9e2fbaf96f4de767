"""Checks before a boot whether a kernel can be a guest here, from its configuration and its modules.

What a kernel lacks is reported as options to set. A kernel whose configuration is not known is judged by its
modules alone, and what cannot be known is assumed to be built in: then the boot shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from harness.errors import UnsuitableKernelError
from harness.kernels.model import FetchedKernel

_SETTING = re.compile(r"^CONFIG_(\w+)=(.+)$", re.MULTILINE)


class Root(StrEnum):
    """Where a guest has its root: on a read-only disk below an overlay, or wholly in the initramfs."""

    DISK = "disk"
    MEMORY = "memory"


@dataclass(frozen=True)
class Need:
    """A kernel option, its purpose in a guest, and the module that it makes with `=m`, if it makes one.

    `arch` is the only architecture that needs it, "" for all.
    """

    option: str
    purpose: str
    module: str = ""
    arch: str = ""


GUEST = (
    Need("BLK_DEV_INITRD", "initramfs"),
    Need("BINFMT_ELF", "programs"),
    Need("MULTIUSER", "users, for sshd"),
    Need("PROC_FS", "/proc"),
    Need("SYSFS", "/sys"),
    Need("DEVTMPFS", "/dev"),
    Need("TMPFS", "/run and /tmp"),
    Need("FUTEX", "threads"),
    Need("EPOLL", "Python"),
    Need("UNIX", "sockets"),
    Need("INET", "network"),
    Need("SERIAL_8250_CONSOLE", "console", arch="amd64"),
    Need("SERIAL_AMBA_PL011_CONSOLE", "console", arch="arm64"),
    Need("VIRTIO_PCI", "devices", "virtio_pci"),
    Need("VIRTIO_BLK", "disks", "virtio_blk"),
    Need("VIRTIO_NET", "network", "virtio_net"),
)
# Of a root on a disk. A kernel that lacks only these has its root in the initramfs.
DISK = (
    Need("EROFS_FS", "root on a disk", "erofs"),
    Need("EROFS_FS_ZIP", "root on a disk"),
    Need("OVERLAY_FS", "root on a disk", "overlay"),
)


def check(kernel: FetchedKernel) -> Root:
    """Where this kernel has its root. Raises UnsuitableKernelError if it cannot be a guest."""
    config = kernel.config.read_text(encoding="utf-8", errors="replace") if kernel.config else ""
    modules = {path.name.partition(".")[0].replace("-", "_") for path in kernel.modules.rglob("*.ko")}
    options = settings(config)
    lacking = list(_lacking(GUEST, options, modules, kernel.arch))
    if lacking:
        words = ", ".join(words for _, words in lacking)
        to_set = sorted({need.option for need, _ in lacking if options.get(need.option) != "m"})
        words_to_set = "".join(f" -e {option}" for option in to_set)
        hint = f"scripts/config{words_to_set} && make olddefconfig, and build again"
        raise UnsuitableKernelError(
            f"kernel {kernel.name} ({kernel.release}) cannot be a guest here; it lacks {words}",
            hint=hint if to_set else "install its modules too: make modules modules_install",
        )
    return Root.MEMORY if any(_lacking(DISK, options, modules, kernel.arch)) else Root.DISK


def built_in(config: str, modules: Iterable[str]) -> Iterator[str]:
    """The modules of a guest that are, or without a configuration may be, built into a kernel."""
    options, present = settings(config), set(modules)
    for need in (*GUEST, *DISK):
        known = options.get(need.option) == "y" if options else need.module not in present
        if need.module and known:
            yield need.module


def settings(config: str) -> dict[str, str]:
    """The options that a configuration sets, without `CONFIG_`; what is not set is absent."""
    return dict(_SETTING.findall(config))


def _lacking(
    needs: Iterable[Need], options: dict[str, str], modules: set[str], arch: str
) -> Iterator[tuple[Need, str]]:
    for need in needs:
        value = options.get(need.option, "")
        if not options or value == "y" or need.arch not in ("", arch):
            continue
        if value == "m" and need.module:
            if need.module not in modules:
                yield need, f"the module {need.module} ({need.purpose})"
        else:
            yield need, f"CONFIG_{need.option} ({need.purpose})"
