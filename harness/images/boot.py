"""Makes a kernel's initramfs and modules disk.

The initramfs holds the modules that are needed to mount the root, and the program that mounts it. It also
holds the guest's init and sshd's configuration, which go into the upper layer of the root: a change of these
makes a new initramfs of 2 MB and not a new root of 80 MB.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.host import cache, resources
from harness.host.cache import MIB, Cache
from harness.host.progress import Phase, Progress, Step, silent
from harness.images import cpio, erofs, modules, native
from harness.images.cpio import Entry
from harness.images.rootfs import RootImage
from harness.kernels import catalogue
from harness.kernels.headers import Headers
from harness.kernels.model import FetchedKernel

LAYOUT = "1"  # of initramfs and modules disk: a new number makes all of them again

_OF_DISKS = ("erofs", "overlay")  # modules without which a root in the initramfs works
_SOURCES = ("early-init.c", "init.c", "sshd_config", "boot-modules.txt")


def initramfs(
    kernel: FetchedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    root: RootImage | None = None,
) -> Path:
    """The initramfs of a kernel, from the cache or made now.

    With `root`, which is a cpio archive, it holds the whole root and all modules, for a kernel that cannot
    mount the disks. Raises InfrastructureError if the kernel lacks a module, or a compiler is not installed.
    """

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the initramfs of {kernel.release}"))
        with (folder / "initramfs").open("wb") as file:
            file.writelines(cpio.records(_entries(kernel, in_memory=root is not None)))
            if root:
                with root.path.open("rb") as archive:
                    shutil.copyfileobj(archive, file)
                # After the root, whose files they replace.
                file.writelines(cpio.records(_added(kernel, "")))
                modules_of = f"usr/lib/modules/{kernel.release}/"
                file.writelines(cpio.records(cpio.tree(kernel.modules, modules_of)))

    sources = ((resources.FOLDER / name).read_bytes() for name in _SOURCES)
    key = cache.digest(LAYOUT, kernel.digest, *sources, *([root.digest] if root else []))
    needs = 512 * MIB if root else 16 * MIB
    return (store or Cache()).get("initramfs", key, build, needs=needs, progress=progress) / "initramfs"


def modules_image(
    kernel: FetchedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    headers: Headers | None = None,
) -> Path:
    """A disk with all modules of a kernel, for `modprobe` in the guest; from the cache or made now.

    With `headers`, the disk also holds the kernel's headers as `build` and `source`. Raises
    InfrastructureError.
    """

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the modules disk of {kernel.release}"))
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = Path(scratch)
            for part in (kernel.modules, headers.folder) if headers else (kernel.modules,):
                _linked(part, tree / kernel.release)
            # Not compressed, because an emulated guest takes long to decompress.
            erofs.make(folder / "modules.erofs", tree, erofs.MODULES, compressed=False)

    key = cache.digest(LAYOUT, kernel.digest, *([headers.digest] if headers else []))
    return (store or Cache()).get("modules", key, build, needs=256 * MIB, progress=progress) / "modules.erofs"


def _linked(source: Path, target: Path) -> None:
    """Copy a tree by hard links; source and target are both in the cache."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=os.link)


def _entries(kernel: FetchedKernel, *, in_memory: bool) -> Iterator[Entry]:
    arch = catalogue.architecture(kernel.arch)
    yield cpio.file("init", native.compile_static(resources.FOLDER / "early-init.c", arch), 0o755)
    names = []
    wanted = [word for word in resources.words("boot-modules.txt") if not (in_memory and word in _OF_DISKS)]
    for path in modules.read(kernel.modules).load_order(wanted):
        names.append(f"modules.d/{Path(path).name}")
        yield cpio.file(names[-1], (kernel.modules / path).read_bytes())
    yield cpio.file("modules", "".join(f"/{name}\n" for name in names).encode())
    if not in_memory:
        yield from _added(kernel, "upper/")


def _added(kernel: FetchedKernel, below: str) -> Iterator[Entry]:
    """The files of the root that are no part of a package."""
    init = native.compile_static(resources.FOLDER / "init.c", catalogue.architecture(kernel.arch))
    yield cpio.file(f"{below}usr/sbin/fim-init", init, 0o755)
    yield cpio.file(f"{below}etc/ssh/sshd_config", (resources.FOLDER / "sshd_config").read_bytes())
