"""The source `build:` of kernels: a tree in which `make` has run, or what `make tar-pkg` installs.

KERNEL TREE     .config, arch/x86/boot/bzImage, modules.order; the tree of the sources, or the folder of O=
INSTALLED       boot/vmlinuz-RELEASE, boot/config-RELEASE, lib/modules/RELEASE/
ARCHIVE         a tar archive of an installed kernel
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError
from harness.host.cache import Cache
from harness.host.paths import real
from harness.host.progress import Progress
from harness.kernels import archives, local
from harness.kernels.local import Parts, check, fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "resolve", "watched"]

_IMAGES = {
    "amd64": ("arch/x86/boot/bzImage",),
    "arm64": ("arch/arm64/boot/Image", "arch/arm64/boot/Image.gz", "arch/arm64/boot/vmlinuz.efi"),
}
_INSTALLED = ("boot/vmlinuz-*", "lib/modules/*/vmlinuz", "usr/lib/modules/*/vmlinuz", "vmlinuz-*")
_TREE = (".config", "Kbuild")  # the build of a tree has the first, its sources the second
_MAX_ARCHIVE = 2 << 30  # bytes


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """The image, which a build writes last, or the archive."""
    root = Path(kernel.build)
    if not root.is_dir():
        return (root,)
    installed = (path for glob in _INSTALLED for path in root.glob(glob))
    return (*(root / name for name in _IMAGES[arch]), *installed)


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The kernel that was built or installed there, taken into the cache. Raises ConfigError."""
    del lock  # files of the user are identified by their digest
    root = Path(kernel.build)
    if root.is_dir():

        def inputs() -> tuple[Package, ...]:
            return tuple(_inputs(root, find(root, arch)))

        return local.resolve(kernel, arch, inputs, lambda _scratch: find(root, arch), store, progress)

    def packed(scratch: Path) -> Parts:
        archives.unpack(root, scratch)
        return find(scratch, arch, root)

    def archive() -> tuple[Package, ...]:
        return (local.of_file("archive", root, _MAX_ARCHIVE),)

    return local.resolve(kernel, arch, archive, packed, store, progress)


def _inputs(root: Path, parts: Parts) -> Iterator[Package]:
    yield local.of_file("image", parts.image)
    if parts.modules:
        yield local.of_modules("modules", root, parts.modules)
    if parts.config:
        yield local.of_file("config", parts.config)


def find(root: Path, arch: str, named: Path | None = None) -> Parts:
    """The parts below `root`; `named` is what the user named, for errors. Raises ConfigError."""
    if any((root / name).is_file() for name in _TREE):
        return _built(root, arch)
    images = sorted({real(path) for glob in _INSTALLED for path in root.glob(glob) if path.is_file()})
    if not images:
        raise ConfigError(
            f"{named or root}: neither a kernel tree nor an installed kernel: "
            "it has no .config and no boot/vmlinuz-RELEASE",
            hint="name the folder in which `make` ran, or what `make tar-pkg` made",
        )
    if len(images) > 1 and len({local.read_image(path, arch).release for path in images}) > 1:
        names = ", ".join(path.name for path in images[:4])
        raise ConfigError(
            f"{named or root}: holds {len(images)} kernels: {names}", hint="name one with image: and modules:"
        )
    return _installed(root, images[0], arch)


def _built(root: Path, arch: str) -> Parts:
    """The parts in a tree in which `make` has run."""
    if not (root / ".config").is_file():
        raise ConfigError(f"{root}: a kernel tree without .config", hint=f"make -C {root} defconfig")
    image = _image(root, arch)
    if image is None:
        raise ConfigError(f"{root}: not built yet: no {_IMAGES[arch][0]}", hint=f"make -C {root} -j$(nproc)")
    return Parts(image, _modules_of_tree(root), root / ".config", strip=True)


def _image(root: Path, arch: str) -> Path | None:
    """The image that a build of the tree writes last, None if no build has ended."""
    return next((root / name for name in _IMAGES[arch] if (root / name).exists()), None)


def _modules_of_tree(root: Path) -> dict[str, Path]:
    """The modules that modules.order of a tree lists; from 6.3 on it names objects."""
    order = root / "modules.order"
    if not order.exists():
        return {}
    lines = local.text(order).splitlines()
    paths = [Path(line).with_suffix(".ko") for line in lines if line]
    found = {}
    for path in paths:
        # Kernels before 5.3 write the folder of the release before each path.
        short = Path(*path.parts[1:]) if path.parts[0] == "kernel" and not (root / path).exists() else path
        if not short.is_absolute() and ".." not in short.parts:
            found[f"kernel/{short}"] = root / short
    needed = {name: found[name] for name in local.needed(found)}
    if gone := [path for path in needed.values() if not path.is_file()]:
        raise ConfigError(
            f"{gone[0]}: listed in modules.order, but not built", hint=f"make -C {root} modules"
        )
    lists = {path.name: path for path in root.glob("modules.builtin*") if path.is_file()}
    return local.bounded({**needed, **{name: lists[name] for name in local.needed(lists)}}, root)


def _installed(root: Path, image: Path, arch: str) -> Parts:
    """The parts of an installed kernel; its files lie beside the image or in lib/modules."""
    release = local.read_image(local.regular(image), arch).release
    modules = local.modules_of_root(root, release)
    configs = [image.with_name(f"config-{release}"), *([modules / "config"] if modules else [])]
    config = next((path for path in configs if path.is_file()), None)
    return Parts(image, local.installed(modules) if modules else {}, config)
