"""From exact packages to a kernel on this disk, through the cache."""

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

# Unpacked and with its modules decompressed, a kernel takes up to this many times its packages' size.
_GROWTH = 8


def fetch(
    resolved: ResolvedKernel,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    repositories: Repositories | None = None,
) -> FetchedKernel:
    """The kernel's files, from the cache or else from its archive, verified either way.

    Raises InfrastructureError: a package that the archive has lost or that is not the one resolved, no disk
    space.
    """

    def build(folder: Path) -> None:
        _build(resolved, repositories or Repositories(), folder, progress)

    size = sum(package.size for package in resolved.packages)
    content = (store or Cache()).get(
        "kernels", resolved.digest, build, needs=size * _GROWTH, progress=progress
    )
    config = content / "config"
    return FetchedKernel(
        name=resolved.name,
        release=resolved.release,
        arch=resolved.arch,
        packages=resolved.packages,
        vmlinuz=content / "vmlinuz",
        modules=content / "lib/modules" / resolved.release,
        config=config if config.exists() else None,
        digest=resolved.digest,
    )


def _build(resolved: ResolvedKernel, repositories: Repositories, folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        tree = unpacked(resolved, repositories, Path(scratch), progress)
        unpack.take(tree, resolved.release, folder, resources.words("guest-modules.txt"))


def unpacked(resolved: ResolvedKernel, repositories: Repositories, scratch: Path, progress: Progress) -> Path:
    """Fetches and verifies all packages and unpacks them into one tree. Raises InfrastructureError."""
    packages, tree = scratch / "packages", scratch / "tree"
    packages.mkdir()
    _download(repositories.apt(resolved.arch, resolved.suite), resolved, packages, progress)
    progress(Step(Phase.IMAGE, f"the files of {resolved.release}"))
    verify(resolved, packages)
    for path in sorted(packages.iterdir()):
        run(["dpkg-deb", "--extract", path, tree], package="dpkg")
    return tree


def _download(apt: Apt, resolved: ResolvedKernel, folder: Path, progress: Progress) -> None:
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
    """What a lock remembers and the index has replaced: archives keep the file for a while."""
    try:
        apt.download_file(package.filename, package.sha256, folder / Path(package.filename).name)
    except ProgramError as error:
        raise InfrastructureError(
            f"{package.name} {package.version}: neither in the cache nor in {resolved.suite} any more",
            hint="take what there is: `harness kernels lock --update`, or run with --unlocked",
        ) from error


def verify(resolved: ResolvedKernel, folder: Path) -> None:
    """Checks that a folder holds exactly the packages that were resolved; raises InfrastructureError."""
    expected = {package.sha256: package.name for package in resolved.packages}
    found = {cache.file_digest(path) for path in folder.iterdir()}
    for name in (name for sha256, name in expected.items() if sha256 not in found):
        raise InfrastructureError(
            f"{name} that was fetched is not the one that was resolved", hint="run again"
        )
