"""What a kernel boots with: an archive of ours with the modules that reach the root, and what enters it.

It also carries the guest's own init and sshd's configuration into the root's upper layer, so that changing
either makes a new initramfs of 2 MB and not a new root of 80.
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
from harness.kernels import catalogue
from harness.kernels.headers import Headers
from harness.kernels.model import FetchedKernel

# How an initramfs is put together: a new number makes all of them again.
LAYOUT = "1"

_SOURCES = ("early-init.c", "init.c", "sshd_config", "boot-modules.txt")


def initramfs(kernel: FetchedKernel, store: Cache | None = None, progress: Progress = silent) -> Path:
    """The initramfs of a kernel, from the cache or written now.

    Raises InfrastructureError: a module that the kernel lacks, a compiler that is not installed.
    """

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the initramfs of {kernel.release}"))
        (folder / "initramfs").write_bytes(cpio.archive(_entries(kernel)))

    sources = ((resources.FOLDER / name).read_bytes() for name in _SOURCES)
    key = cache.digest(LAYOUT, kernel.digest, *sources)
    return (store or Cache()).get("initramfs", key, build, needs=16 * MIB, progress=progress) / "initramfs"


def modules_image(
    kernel: FetchedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    headers: Headers | None = None,
) -> Path:
    """A disk with all modules of a kernel, for `modprobe` in the guest; from the cache or made now.

    With `headers` these lie beside them, as `build` and `source`. Raises InfrastructureError.
    """

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the modules disk of {kernel.release}"))
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = Path(scratch)
            for part in (kernel.modules, headers.folder) if headers else (kernel.modules,):
                _linked(part, tree / kernel.release)
            # Not compressed: a host has the space, an emulated guest has not the time.
            erofs.make(folder / "modules.erofs", tree, erofs.MODULES, compressed=False)

    key = cache.digest(LAYOUT, kernel.digest, *([headers.digest] if headers else []))
    return (store or Cache()).get("modules", key, build, needs=256 * MIB, progress=progress) / "modules.erofs"


def _linked(source: Path, target: Path) -> None:
    """The same tree once more, of the same files: both lie in the cache."""
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=os.link)


def _entries(kernel: FetchedKernel) -> Iterator[Entry]:
    arch = catalogue.architecture(kernel.arch)
    yield cpio.file("init", native.compile_static(resources.FOLDER / "early-init.c", arch), 0o755)
    names = []
    for path in modules.read(kernel.modules).load_order(resources.words("boot-modules.txt")):
        names.append(f"modules.d/{Path(path).name}")
        yield cpio.file(names[-1], (kernel.modules / path).read_bytes())
    yield cpio.file("modules", "".join(f"/{name}\n" for name in names).encode())
    yield cpio.file(
        "upper/usr/sbin/fim-init", native.compile_static(resources.FOLDER / "init.c", arch), 0o755
    )
    yield cpio.file("upper/etc/ssh/sshd_config", (resources.FOLDER / "sshd_config").read_bytes())
