"""The source `image:` of kernels: a vmlinuz or bzImage, with files that are named beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import Progress
from harness.kernels import archives, local
from harness.kernels.local import Parts, check, fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "resolve", "watched"]

_MAX_ARCHIVE = 2 << 30  # bytes
_MAX_VMLINUX = 4 << 30


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """The named files; of a folder of modules the list that `make modules_install` writes."""
    del arch
    modules = Path(kernel.modules)
    named = [Path(name) for name in (kernel.image, kernel.config, kernel.vmlinux) if name]
    return (*named, *([modules / "modules.order" if modules.is_dir() else modules] if kernel.modules else []))


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The kernel in these files, taken into the cache. Raises ConfigError."""
    del lock  # files of the user are identified by their digest
    image, modules = local.regular(Path(kernel.image)), Path(kernel.modules)
    config = Path(kernel.config) if kernel.config else None
    vmlinux = Path(kernel.vmlinux) if kernel.vmlinux else None
    release = local.read_image(image, arch).release

    def inputs() -> tuple[Package, ...]:
        return (
            local.of_file("image", image),
            *(_modules_input(modules, release) if kernel.modules else ()),
            *([local.of_file("config", config)] if config else []),
            *([local.of_file("vmlinux", vmlinux, _MAX_VMLINUX)] if vmlinux else []),
        )

    def find(scratch: Path) -> Parts:
        found = _modules(modules, scratch, release) if kernel.modules else {}
        return Parts(image, found, config, vmlinux)

    return local.resolve(kernel, arch, inputs, find, store, progress)


def _modules_input(path: Path, release: str) -> Iterator[Package]:
    if path.is_dir():
        folder = local.modules_below(path, release)
        yield local.of_modules("modules", folder, local.installed(folder))
    else:
        yield local.of_file("modules", path, _MAX_ARCHIVE)


def _modules(path: Path, scratch: Path, release: str) -> dict[str, Path]:
    """The modules in a folder, or in an archive that is unpacked into `scratch`."""
    if not path.is_dir():
        archives.unpack(path, scratch)
        if not any(scratch.iterdir()):
            raise ConfigError(
                f"{path}: no kernel modules in it", hint="they must be below lib/modules/RELEASE/"
            )
        path = scratch
    return local.installed(local.modules_below(path, release))
