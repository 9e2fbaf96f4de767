"""The source `packages:` of kernels: .deb files (bindeb-pkg, a vendor), .rpm files, or a folder of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.progress import Progress
from harness.kernels import archives, build, local
from harness.kernels.local import Parts, check, fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "resolve", "watched"]

SUFFIXES = (".deb", ".rpm")
_MAX_PACKAGE = 4 << 30  # bytes

# Packages of a kernel's build in which no guest looks; some are larger than the kernel.
_OTHERS = re.compile(r"[-_](?:dbg|dbgsym|debug|debuginfo|devel|headers|libc-dev|tools|doc|source|src)\b")


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """The packages that exist now."""
    del arch
    paths = [Path(name) for name in kernel.packages]
    return tuple(one for path in paths for one in (sorted(path.iterdir()) if path.is_dir() else [path]))


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The kernel in these packages, taken into the cache. Raises ConfigError."""
    del lock  # files of the user are identified by their digest
    paths = [path for name in kernel.packages for path in _packages(Path(name))]

    def inputs() -> tuple[Package, ...]:
        return tuple(local.of_file(local.printable(path.name), path, _MAX_PACKAGE) for path in paths)

    def find(scratch: Path) -> Parts:
        _unpack(paths, scratch)
        return build.find(scratch, arch, Path(kernel.packages[0]))

    return local.resolve(kernel, arch, inputs, find, store, progress)


def _packages(path: Path) -> Iterator[Path]:
    """A package, or those of a folder that may hold parts of a kernel. Raises ConfigError."""
    if not path.is_dir():
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path}: neither a .deb nor a .rpm file", hint="name packages or their folder")
        yield local.regular(path, _MAX_PACKAGE)
        return
    found = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES)
    parts = [child for child in found if not _OTHERS.search(child.name)]
    if not parts:
        raise ConfigError(
            f"{path}: no package of a kernel in it", hint="name a folder with .deb or .rpm files"
        )
    yield from parts


def _unpack(paths: list[Path], scratch: Path) -> None:
    """Unpack all packages into one folder. Raises ConfigError if two of them hold the same kernel."""
    owners: dict[str, Path] = {}
    for path in paths:
        for name in archives.unpack(path, scratch):
            if owners.setdefault(name, path) != path:
                raise ConfigError(
                    f"{owners[name].name} and {path.name} both hold {name}",
                    hint="name the packages of one build",
                )
    if not any("vmlinu" in Path(name).name or "Image" in Path(name).name for name in owners):
        names = ", ".join(path.name for path in paths[:4])
        raise ConfigError(
            f"no kernel image in {names}",
            hint="add the package that has it: linux-image-RELEASE, or kernel-core",
        )
