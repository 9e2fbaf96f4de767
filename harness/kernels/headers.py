"""Fetches a kernel's headers, with which BCC compiles BPF programs in the guest.

Debian has them in two packages: `linux-headers-RELEASE`, and `linux-headers-VERSION-common` on which it
depends. Only the include folders are kept, because compiling a BPF program does not need the build scripts
and the other architectures, which are most of the packages.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import cache
from harness.host.cache import MIB, Cache
from harness.host.progress import Progress, silent
from harness.kernels import fetcher
from harness.kernels.apt import Apt
from harness.kernels.index import package as package_of
from harness.kernels.model import Package, ResolvedKernel
from harness.kernels.repositories import Repositories

LAYOUT = "1"  # of the cached folder: a new number fetches all headers again

_COMMON = re.compile(r"\b(linux-headers-\S+-common(?:-rt)?)\b")
_ARCH = {"amd64": "x86", "arm64": "arm64"}  # Debian's names and the kernel's folders below arch/
_SIZE = 256 * MIB


@dataclass(frozen=True)
class Headers:
    """`folder` holds `build` and `source`, which belong beside the modules in the guest."""

    folder: Path
    packages: tuple[Package, ...]
    digest: str


def fetch_headers(
    kernel: ResolvedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    repositories: Repositories | None = None,
) -> Headers:
    """The headers of exactly this kernel, from the cache or from its archive.

    Raises InfrastructureError if the archive no longer has them, or a fetched package is not the listed one.
    """
    repositories = repositories or Repositories()
    packages = _resolve(kernel, repositories, progress)
    wanted = dataclasses.replace(kernel, packages=packages)
    key = cache.digest(LAYOUT, kernel.release, kernel.arch, *(package.sha256 for package in packages))

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = fetcher.unpacked(wanted, repositories, Path(scratch), progress)
            take(tree / "usr/src", packages, _ARCH[kernel.arch], folder)

    content = (store or Cache()).get("headers", key, build, needs=_SIZE, progress=progress)
    return Headers(content, packages, key)


def take(sources: Path, packages: tuple[Package, ...], arch: str, folder: Path) -> None:
    """Move the include folders of the kernel's own and of the common package into `folder`.

    Raises InfrastructureError if a package has another layout.
    """
    for package, name in zip(packages, ("build", "source"), strict=True):
        for part in ("include", f"arch/{arch}/include"):
            if not (include := sources / package.name / part).is_dir():
                raise InfrastructureError(
                    f"package {package.name} has no folder {part}",
                    hint="Debian's packaging may have changed: please report it",
                )
            target = folder / name / part
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(include, target)


def _resolve(
    kernel: ResolvedKernel, repositories: Repositories, progress: Progress
) -> tuple[Package, Package]:
    apt = repositories.apt(kernel.arch, kernel.suite)
    apt.refresh(progress)
    name, version = f"linux-headers-{kernel.release}", kernel.packages[0].version
    own = _listed(apt, name, version)
    common = _COMMON.search(own.get("depends", "")) if own else None
    shared = _listed(apt, common[1], version) if common else None
    if not (own and shared):
        raise InfrastructureError(
            f"{kernel.suite} has no {name} {version}", hint="run with --unlocked to use the newest kernel"
        )
    return package_of(own), package_of(shared)


def _listed(apt: Apt, name: str, version: str) -> dict[str, str] | None:
    return next((stanza for stanza in apt.show([name]) if stanza["version"] == version), None)
