"""Makes the root that all guests of an architecture share: Debian packages that are unpacked, not installed.

The image is a read-only disk. mmdebstrap resolves and unpacks the packages and runs no maintainer scripts. So
it needs no foreign binary, no chroot and no root privileges, and the image depends only on its packages. Two
results of the scripts are needed and made here: the accounts come from `images/root/`, and Python's modules
are compiled on the host, because that takes seconds in an emulated guest.
"""

from __future__ import annotations

import re
import shutil
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from harness.host import cache, resources
from harness.host.cache import MIB, Cache
from harness.host.programs import run
from harness.host.progress import Phase, Progress, Step, silent
from harness.images import cpio, erofs
from harness.kernels import catalogue
from harness.kernels.apt import Apt, transport_settings
from harness.kernels.repositories import Repositories

LAYOUT = "2"  # of the image: a new number makes it again

# A root can have the packages of NAME-packages.txt in addition; NAME-includes.txt has the lines of
# guest-excludes.txt that do not apply then.
COMPILER = "compiler"  # BPF programs can be compiled
MONITORS = "bench"  # the monitors and workloads of `harness bench`

_PACKAGE = re.compile(r"([^_]+)_([^_]+)_\w+\.deb SHA256:(\w+)")
_OPTIONS = ("--quiet", "--variant=extract", "--format=tar")
_EXTRACT = ("tar", "--extract", "--no-same-owner", "--preserve-permissions")
_PYC = ("--invalidation-mode", "unchecked-hash")
_MERGED_USR = (
    'cd "$1" && mkdir -p usr/bin usr/sbin usr/lib usr/lib64 && ln -s usr/bin usr/sbin usr/lib usr/lib64 .'
)


@dataclass(frozen=True)
class RootImage:
    """The disk or archive, the digest of its sources, and a line for each package: file name and SHA-256."""

    path: Path
    digest: str
    packages: tuple[str, ...]


def root_image(
    arch: str = "amd64",
    store: Cache | None = None,
    progress: Progress = silent,
    *,
    extra: str = "",
    in_memory: bool = False,
    repositories: Repositories | None = None,
) -> RootImage:
    """The root image of an architecture, from the cache or made now (about 20 s).

    `extra` is "", COMPILER or MONITORS; each is another image. An image is made again when its list of
    packages or one of the packages changes. With `in_memory` it is a cpio archive for an initramfs and no
    disk. Raises ConfigError for an unknown architecture, and InfrastructureError.
    """
    name = "root.cpio" if in_memory else "root.erofs"
    apt = (repositories or Repositories()).apt(catalogue.architecture(arch).name, *catalogue.USERLAND)
    apt.refresh(progress)
    names = resources.words("guest-packages.txt") + (_list(extra) if extra else ())
    kept = resources.words(f"{extra}-includes.txt") if extra else ()
    packages = apt.closure(names)

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the guests' root for {arch}, {len(packages)} packages"))
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            tree = _unpack(apt, names, kept, Path(scratch))
            compile_python(tree, progress)
            if in_memory:
                with (folder / name).open("wb") as file:
                    file.writelines(cpio.records(cpio.tree(tree)))
            else:
                # A larger root is not compressed: a guest reads most of it, and decompressing takes seconds.
                erofs.make(folder / name, tree, erofs.ROOT, compressed=not extra)

    variant = [extra, "memory" if in_memory else ""]
    added = (*sources("root"), (resources.FOLDER / "guest-excludes.txt").read_bytes())
    key = cache.digest(LAYOUT, arch, *packages, *added, *kept, *filter(None, variant))
    content = (store or Cache()).get("root", key, build, needs=1024 * MIB, progress=progress)
    return RootImage(content / name, key, tuple(packages))


def compilers(image: RootImage) -> tuple[tuple[str, str, str], ...]:
    """The compiler's packages in an image: name, version and SHA-256."""
    wanted = _list(COMPILER)
    matches = (_PACKAGE.fullmatch(line) for line in image.packages)
    return tuple((match[1], unquote(match[2]), match[3]) for match in matches if match and match[1] in wanted)


def _list(extra: str) -> tuple[str, ...]:
    return resources.words(f"{extra}-packages.txt")


def sources(folder: str) -> list[bytes]:
    """The names and contents of the files that `images/FOLDER` adds to a root, for the key of its image."""
    files = sorted(path for path in (resources.FOLDER / folder).rglob("*") if path.is_file())
    names = [str(path.relative_to(resources.FOLDER)).encode() for path in files]
    return [*names, *(path.read_bytes() for path in files)]


def _unpack(apt: Apt, names: tuple[str, ...], kept: tuple[str, ...], scratch: Path) -> Path:
    archive, tree = scratch / "root.tar", scratch / "root"
    options = [
        *_OPTIONS,
        f"--architectures={apt.arch}",
        f"--setup-hook={_MERGED_USR}",
        f"--include={','.join(names)}",
    ]
    bootstrap(apt, options, archive, scratch)
    extract(archive, tree, kept)
    add_files(resources.FOLDER / "root", tree)
    return tree


def bootstrap(apt: Apt, options: list[str], archive: Path, scratch: Path) -> None:
    """Run mmdebstrap with `options`, the settings and the sources of `apt`. Raises InfrastructureError."""
    settings = scratch / "apt.conf"
    settings.write_text("".join(f"{line}\n" for line in transport_settings()))
    run(
        ["mmdebstrap", *options, f"--aptopt={settings}", apt.suites[0], archive, *apt.source_lines()],
        package="mmdebstrap",
    )


def extract(archive: Path, tree: Path, kept: tuple[str, ...]) -> None:
    """Unpack a root without the paths of guest-excludes.txt that are not in `kept`."""
    tree.mkdir()
    tree.chmod(0o755)
    excludes = [f"--exclude={line}" for line in resources.words("guest-excludes.txt") if line not in kept]
    run([*_EXTRACT, *excludes, f"--directory={tree}", f"--file={archive}"], package="tar")


def add_files(source: Path, tree: Path) -> None:
    """Copy files from the checkout into a guest's tree, with modes that do not depend on the user's umask."""
    for path in sorted(source.rglob("*")):
        place = tree / path.relative_to(source)
        if path.is_dir():
            if not place.exists():
                place.mkdir()
                place.chmod(0o755)
        else:
            shutil.copyfile(path, place)
            place.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def compile_python(tree: Path, progress: Progress = silent) -> None:
    """Compile the Python modules of a guest's tree, or report that the host lacks this version of Python.

    The compiled files hold the hash of their source and are never compared with it, because a comparison of
    times fails in an image in which all times are 0.
    """
    for library in sorted((tree / "usr/lib").glob("python3.*")):
        python = _python(library.name)
        if python is None:
            progress(f"no {library.name} on this host: each guest compiles its Python modules, which is slow")
            continue
        folders = [library, tree / "usr/lib/python3"]
        run([python, "-m", "compileall", "-qq", *_PYC, "-s", tree, "-p", "/", *folders])


def _python(name: str) -> str | None:
    if name == f"python{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    return shutil.which(name)
