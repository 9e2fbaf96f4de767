"""Makes a root in which Debian's packages are installed, with systemd as PID 1.

The root of other guests is only unpacked and has no database of packages, no accounts and no service manager;
see `rootfs`. Here the maintainer scripts run, so the host must be able to run programs of the guest's
architecture, and mmdebstrap needs root privileges or user namespaces.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from harness.host import cache, resources
from harness.host.cache import MIB, Cache
from harness.host.programs import run
from harness.host.progress import Phase, Progress, Step, silent
from harness.images import erofs, rootfs
from harness.images.rootfs import RootImage
from harness.kernels import catalogue
from harness.kernels.apt import Apt
from harness.kernels.repositories import Repositories

LAYOUT = "1"  # of the image: a new number makes it again

_LISTS = ("debian-packages.txt", "debian-includes.txt", "guest-excludes.txt")


def installed_root(
    name: str,
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    repositories: Repositories | None = None,
) -> RootImage:
    """The image of one of `catalogue.INSTALLED` for amd64, from the cache or made now (about 60 s).

    An image is made again when its list of packages or one of the packages changes. Raises
    InfrastructureError.
    """
    apt = (repositories or Repositories()).apt("amd64", *catalogue.INSTALLED[name])
    apt.refresh(progress)
    packages = apt.closure(resources.words("debian-packages.txt"))

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the root {name}, {len(packages)} packages"))
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = _install(apt, Path(scratch))
            # The times stay: compiled Python modules have those of their sources.
            erofs.make(folder / "root.erofs", tree, erofs.ROOT, compressed=True, times=True)

    key = cache.digest(LAYOUT, name, *packages, *_added())
    content = (store or Cache()).get("root", key, build, needs=1024 * MIB, progress=progress)
    return RootImage(content / "root.erofs", key, tuple(packages))


def _added() -> list[bytes]:
    """The other sources of the image, for its key."""
    lists = [(resources.FOLDER / name).read_bytes() for name in _LISTS]
    return [*lists, *rootfs.sources("debian-root")]


def _install(apt: Apt, scratch: Path) -> Path:
    archive, tree = scratch / "root.tar", scratch / "root"
    options = [
        "--quiet",
        "--variant=minbase",
        "--format=tar",
        f"--include={','.join(resources.words('debian-packages.txt'))}",
    ]
    rootfs.bootstrap(apt, options, archive, scratch)
    kept = resources.words("debian-includes.txt")
    rootfs.extract(archive, tree, kept)
    rootfs.add_files(resources.FOLDER / "debian-root", tree)
    # A minimal system resolves names without it, and a guest has no network but loopback.
    (tree / "etc/apt/sources.list").unlink(missing_ok=True)
    run(["find", tree / "etc/apt/sources.list.d", "-type", "f", "-delete"])
    return tree
