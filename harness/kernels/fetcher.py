"""Fetches, verifies and unpacks the packages of a resolved kernel into the cache."""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import cache, resources
from harness.host.cache import Cache
from harness.host.programs import ProgramError, run
from harness.host.progress import Phase, Progress, Step, bytes_of, silent
from harness.kernels import unpack
from harness.kernels.apt import Apt
from harness.kernels.model import FetchedKernel, Package, ResolvedKernel
from harness.kernels.repositories import Repositories

# An unpacked kernel with decompressed modules takes up to this many times the size of its packages.
_GROWTH = 8


def fetch(
    resolved: ResolvedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    repositories: Repositories | None = None,
) -> FetchedKernel:
    """The kernel's files, from the cache or from the archive, verified either way.

    Raises InfrastructureError if the archive no longer has a package, if a package is not the resolved one,
    or if the disk is full.
    """

    def build(folder: Path) -> None:
        _build(resolved, repositories or Repositories(), folder, progress)

    size = sum(package.size for package in resolved.packages)
    content = (store or Cache()).get(
        "kernels", resolved.digest, build, needs=size * _GROWTH, progress=progress
    )
    return within(content, resolved)


def within(content: Path, resolved: ResolvedKernel) -> FetchedKernel:
    """The kernel whose files are in `content`, a folder of the cache."""
    config, btf = content / "config", content / "btf"
    return FetchedKernel(
        name=resolved.name,
        release=resolved.release,
        arch=resolved.arch,
        packages=resolved.packages,
        vmlinuz=content / "vmlinuz",
        modules=content / "lib/modules" / resolved.release,
        config=config if config.exists() else None,
        digest=resolved.digest,
        btf=btf if btf.exists() else None,
    )


def _build(resolved: ResolvedKernel, repositories: Repositories, folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tree = unpacked(resolved, repositories, Path(scratch), progress)
        unpack.take(tree, resolved.release, folder, resources.words("guest-modules.txt"))


def unpacked(resolved: ResolvedKernel, repositories: Repositories, scratch: Path, progress: Progress) -> Path:
    """Fetch and verify all packages and unpack them into one tree. Raises InfrastructureError."""
    packages, tree = scratch / "packages", scratch / "tree"
    packages.mkdir()
    download(repositories.apt(resolved.arch, resolved.suite), resolved, packages, progress)
    progress(Step(Phase.IMAGE, f"the files of {resolved.release}"))
    verify(resolved, packages)
    for path in sorted(packages.iterdir()):
        run(["dpkg-deb", "--extract", path, tree], package="dpkg")
    return tree


def download(apt: Apt, resolved: ResolvedKernel, folder: Path, progress: Progress) -> None:
    """Fetch the packages of a kernel into `folder`, also those that the index has replaced."""
    apt.refresh(progress)
    offered = {stanza["sha256"] for stanza in apt.show([package.name for package in resolved.packages])}
    listed = [package for package in resolved.packages if package.sha256 in offered]
    size = sum(package.size for package in resolved.packages)
    step = Step(Phase.FETCH, f"{resolved.packages[0].name} from {resolved.suite}", total=size)
    progress(step)
    if listed:
        names = [(package.name, package.version) for package in listed]
        apt.download(names, folder, bytes_of(step, progress))
    for package in resolved.packages:
        if package not in listed:
            _download_unlisted(apt, resolved, package, folder)


def _download_unlisted(apt: Apt, resolved: ResolvedKernel, package: Package, folder: Path) -> None:
    """Fetch a locked package that the index has replaced: archives keep old files for a while."""
    try:
        apt.download_file(package.filename, package.sha256, folder / Path(package.filename).name)
    except ProgramError as error:
        raise InfrastructureError(
            f"{package.name} {package.version}: neither in the cache nor in {resolved.suite} any more",
            hint="use the newest kernels: run `harness kernels lock --update`, or run with --unlocked",
        ) from error


def verify(resolved: ResolvedKernel, folder: Path) -> None:
    """Raise InfrastructureError unless `folder` holds each package that was resolved."""
    fetched = {cache.file_digest(path) for path in folder.iterdir()}
    for package in resolved.packages:
        if package.sha256 not in fetched:
            raise InfrastructureError(
                f"{package.name}: the fetched package is not the resolved one (SHA-256 differs)",
                hint="run again",
            )
