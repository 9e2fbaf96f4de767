"""A kernel's headers, for what is compiled in its guests.

Debian has them in two packages, `linux-headers-RELEASE` and the `linux-headers-VERSION-common` that it
depends on. What compiles a BPF program reads neither the build scripts nor the other architectures' part,
which are most of it.
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
from harness.kernels.index import package
from harness.kernels.model import Package, ResolvedKernel
from harness.kernels.repositories import Repositories

# What is kept, and how: a new number fetches them again.
LAYOUT = "1"

_COMMON = re.compile(r"\b(linux-headers-\S+-common(?:-rt)?)\b")
_ARCH = {"amd64": "x86", "arm64": "arm64"}  # as the kernel's folders are called
_SIZE = 256 * MIB


@dataclass(frozen=True)
class Headers:
    """`folder` holds `build` and `source`, as they belong beside the modules."""

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
    """The headers of exactly this kernel, from the cache or else from its archive.

    Raises InfrastructureError: the archive has them no more, or what was fetched is not what was listed.
    """
    repositories = repositories or Repositories()
    packages = _resolve(kernel, repositories, progress)
    wanted = dataclasses.replace(kernel, packages=packages)
    key = cache.digest(LAYOUT, kernel.release, kernel.arch, *(one.sha256 for one in packages))

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = fetcher.unpacked(wanted, repositories, Path(scratch), progress)
            take(tree / "usr/src", packages, _ARCH[kernel.arch], folder)

    content = (store or Cache()).get("headers", key, build, needs=_SIZE, progress=progress)
    return Headers(content, packages, key)


def take(sources: Path, packages: tuple[Package, ...], arch: str, folder: Path) -> None:
    """Moves what is compiled against out of unpacked packages: the kernel's own part, and the common one.

    Raises InfrastructureError if a package is laid out in another way.
    """
    for one, name in zip(packages, ("build", "source"), strict=True):
        for part in ("include", f"arch/{arch}/include"):
            if not (found := sources / one.name / part).is_dir():
                raise InfrastructureError(f"{one.name} has no {part}", hint="has Debian's packaging changed?")
            target = folder / name / part
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(found, target)


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
            f"{kernel.suite} has no {name} {version}", hint="take what there is: run with --unlocked"
        )
    return package(own), package(shared)


def _listed(apt: Apt, name: str, version: str) -> dict[str, str] | None:
    return next((one for one in apt.show([name]) if one["version"] == version), None)
