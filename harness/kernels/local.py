"""Takes a kernel that lies on this host into the cache: what the sources of a user's own files share.

The files are the user's, but they may come from anywhere, so they are read as hostile input. The key of the
cache is made of their digests: a kernel that was built again is another kernel.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, InfrastructureError
from harness.host import cache, files, resources
from harness.host.cache import MIB, Cache
from harness.host.programs import run
from harness.host.progress import Phase, Progress, Step
from harness.kernels import catalogue, fetcher, payload, preflight, unpack
from harness.kernels.catalogue import Architecture
from harness.kernels.model import FetchedKernel, Package, ResolvedKernel
from harness.plan.matrix import Kernel

LAYOUT = "3"  # of the cached folder: a new number takes all kernels again

_MAX_MODULES = 16 << 30  # bytes, with debugging information
_MAX_FILES = 50_000
_MAX_TEXT = 4 << 20
_MODULE = re.compile(r".+\.ko(?:\.(?:gz|xz|zst))?")
_SIGNED = b"~Module signature appended~\n"  # the end of a module that is signed
_STRIPPED_AT_ONCE = 200
_LISTS = ("modules.builtin", "modules.builtin.modinfo", "modules.order")
_VERSION_MAGIC = re.compile(rb"\0vermagic=([A-Za-z0-9][A-Za-z0-9._+~-]{0,63}) ")
_HEAD = 1024  # characters of a configuration that may name its version
_CONFIGURED = re.compile(r"^# Linux/\S+ (\d+\.\d+)\S* Kernel Configuration$", re.MULTILINE)
_SETTING = re.compile(r"^(?:CONFIG_\w+=|# CONFIG_\w+ is not set)", re.MULTILINE)


@dataclass(frozen=True)
class Parts:
    """The files of one kernel; `modules` maps paths below the folder of the release to files.

    With `strip` debugging information is taken off the modules, as by INSTALL_MOD_STRIP=1.
    """

    image: Path
    modules: Mapping[str, Path] = field(default_factory=dict)
    config: Path | None = None
    vmlinux: Path | None = None
    strip: bool = False


Inputs = Callable[[], tuple[Package, ...]]
"""Returns the records of all files that the user named, as they are now. Raises ConfigError."""

Find = Callable[[Path], Parts]
"""Finds the parts; the argument is an empty folder in which archives may be unpacked."""


def check(kernel: Kernel, arch: str) -> None:
    """Raise ConfigError for an unknown architecture."""
    del kernel  # its files are checked when they are read
    catalogue.architecture(arch)


def resolve(
    kernel: Kernel, arch: str, inputs: Inputs, find: Find, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The kernel of these files, taken into the cache. Raises ConfigError, with nothing cached."""
    listed = inputs()
    named = (f"{one.name} {one.sha256}" for one in listed)
    kept = resources.words("guest-modules.txt")
    key = cache.digest("local", LAYOUT, arch, kernel.source, *kept, *named)

    def build(folder: Path) -> None:
        progress(Step(Phase.IMAGE, f"the files of {kernel.name}"))
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            take(find(Path(scratch)), arch, folder)
        if inputs() != listed:
            raise ConfigError(
                f"{kernel.requested}: changed while it was read", hint="run again when its build has ended"
            )

    content = store.get("kernels", key, build, needs=256 * MIB, progress=progress)
    release = (content / "release").read_text()
    return ResolvedKernel(kernel.name, "", release, arch, "", listed, kernel.source, key)


def fetch(resolved: ResolvedKernel, store: Cache, progress: Progress) -> FetchedKernel:
    """The kernel's files in the cache. Raises InfrastructureError if they are no longer there."""

    def missing(_folder: Path) -> None:
        raise InfrastructureError(f"{resolved.name}: no longer in the cache", hint="run again")

    return fetcher.within(store.get("kernels", resolved.digest, missing, progress=progress), resolved)


def fetch_headers(resolved: ResolvedKernel, store: Cache, progress: Progress) -> None:
    """Nothing for a kernel that holds its headers. Raises ConfigError for any other one.

    Only Debian's archive has headers in a form that is known.
    """
    config = fetch(resolved, store, progress).config
    options = preflight.settings(config.read_text(errors="replace") if config else "")
    if options.get("IKHEADERS") not in ("y", "m"):
        raise ConfigError(
            f"{resolved.name}: the harness has no headers of this kernel, and bcc compiles with them",
            hint="build it with CONFIG_IKHEADERS, or leave out the hook set bcc and btf: none for it",
        )


# --- digests of what the user named ---


def regular(path: Path, limit: int = payload.MAX_IMAGE) -> Path:
    """The path of a regular file of at most `limit` bytes; raises ConfigError for anything else."""
    try:
        with files.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        hint = "paths in a matrix are relative to its folder"
        raise ConfigError(f"{path}: no such file", hint=hint) from error
    except OSError as error:
        hint = "name a regular file that this user can read"
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint=hint) from error
    if size > limit:
        raise ConfigError(f"{path}: larger than {limit >> 20} MiB", hint="name the file of one kernel")
    return path


def printable(name: str) -> str:
    """A file name as ASCII, for the results."""
    return name.encode("ascii", "backslashreplace").decode()[:512]


def of_file(name: str, path: Path, limit: int = payload.MAX_IMAGE) -> Package:
    """The record of a file that the user named. Raises ConfigError."""
    digest = cache.file_digest(regular(path, limit))
    return Package(name, "", digest, path.stat().st_size, str(path))


def of_modules(name: str, folder: Path, modules: Mapping[str, Path]) -> Package:
    """The record of modules: one digest for the names and contents of all."""
    whole = hashlib.sha256()
    size = 0
    for place, path in sorted(modules.items()):
        whole.update(f"{place}\0{cache.file_digest(path)}\0".encode("utf-8", "surrogateescape"))
        size += path.stat().st_size
    return Package(name, "", whole.hexdigest(), size, str(folder))


# --- modules ---


def needed(names: Iterable[str]) -> Iterable[str]:
    """The names, below the folder of a release, of modules and lists that guests may need."""
    globs = [glob.split("/") for glob in resources.words("guest-modules.txt")]
    for name in names:
        parts = name.split("/")
        if name in _LISTS or (
            _MODULE.fullmatch(name)
            and any(len(parts) >= len(glob) and all(map(fnmatchcase, parts, glob)) for glob in globs)
        ):
            yield name


def installed(folder: Path) -> dict[str, Path]:
    """The needed files below the folder of a release, by name. Raises ConfigError for too many."""
    found: dict[str, Path] = {}
    for where, _folders, names in os.walk(folder):
        base = Path(where)
        found.update({str((base / name).relative_to(folder)): base / name for name in names})
        if len(found) > _MAX_FILES:
            raise ConfigError(f"{folder}: more than {_MAX_FILES} files")
    # A FIFO would block the reader, and a link may lead anywhere.
    plain = (name for name in needed(found) if stat.S_ISREG(found[name].lstat().st_mode))
    return bounded({name: found[name] for name in plain}, folder)


def bounded(modules: dict[str, Path], folder: Path) -> dict[str, Path]:
    """The modules, unless they are too large. Raises ConfigError."""
    if sum(path.stat().st_size for path in modules.values()) > _MAX_MODULES:
        raise ConfigError(
            f"{folder}: the modules have more than {_MAX_MODULES >> 30} GiB",
            hint="install them without debugging information: make modules_install INSTALL_MOD_STRIP=1",
        )
    return modules


def modules_below(folder: Path, release: str) -> Path:
    """The folder of the modules of `release` in a folder that the user named. Raises ConfigError."""
    if any((folder / name).exists() for name in ("modules.order", "modules.dep", "kernel")):
        return folder
    found = folder / release if (folder / release).is_dir() else modules_of_root(folder, release)
    if found is None:
        raise ConfigError(
            f"{folder}: not a folder of kernel modules",
            hint="name lib/modules/RELEASE, or what make modules_install INSTALL_MOD_PATH=FOLDER made",
        )
    return found


def modules_of_root(root: Path, release: str) -> Path | None:
    """The folder of the modules of `release` in a root, None if the root has no modules at all.

    Raises ConfigError if it has only modules of other releases.
    """
    roots = [root / prefix / "lib/modules" for prefix in ("", "usr")]
    found = next((one / release for one in roots if (one / release).is_dir()), None)
    others = sorted(path.name for one in roots if one.is_dir() for path in one.iterdir())
    if others and found is None:
        raise ConfigError(
            f"{root}: has modules of {', '.join(others[:3])} and not of {release}, which the image is",
            hint="install the modules of the same build: make modules_install INSTALL_MOD_PATH=FOLDER",
        )
    return found


# --- into the cache ---


def take(parts: Parts, arch: str, folder: Path) -> None:
    """Write the kernel's files into `folder`, as `fetcher.within` reads them. Raises ConfigError."""
    image = read_image(parts.image, arch)
    shutil.copyfile(parts.image, folder / "vmlinuz")
    (folder / "release").write_text(image.release)
    if config := configuration(parts.config, image.release) if parts.config else image.config:
        (folder / "config").write_text(config)
    if parts.vmlinux and not image.btf and (btf := _btf(parts.vmlinux, image.release)):
        (folder / "btf").write_bytes(btf)
    target = folder / "lib/modules" / image.release
    target.mkdir(parents=True)
    for name, path in parts.modules.items():
        place = target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    try:
        unpack.decompress(target)
    except InfrastructureError as error:
        raise ConfigError(f"{parts.image}: {error.message}", hint=error.hint) from error
    _check_release(target, image.release)
    if parts.strip:
        _strip(target, catalogue.architecture(arch))
    _write_lists(target, config)
    run(["depmod", "-b", folder, image.release], package="kmod")


def _strip(modules: Path, arch: Architecture) -> None:
    """Take debugging information off the modules that have it and no signature, which it would invalidate."""
    found = []
    for path in sorted(modules.rglob("*.ko")):
        data = path.read_bytes()
        if b".debug_info" in data and not data.endswith(_SIGNED):
            found.append(path)
    for at in range(0, len(found), _STRIPPED_AT_ONCE):
        batch = found[at : at + _STRIPPED_AT_ONCE]
        run([arch.compiler.replace("gcc", "strip"), "--strip-debug", *batch], package=arch.compiler_package)


def _write_lists(modules: Path, config: str) -> None:
    """Complete the lists that depmod and modprobe read: a kernel without modules comes with none."""
    (modules / "modules.order").touch()
    present = (path.stem.replace("-", "_") for path in modules.rglob("*.ko"))
    path = modules / "modules.builtin"
    known = text(path).splitlines() if path.exists() else []
    more = [f"kernel/{name}.ko" for name in preflight.built_in(config, present)]
    path.write_text("".join(f"{line}\n" for line in dict.fromkeys((*known, *more))), encoding="utf-8")


def read_image(path: Path, arch: str) -> payload.Image:
    """The content of an image for guests of `arch`. Raises ConfigError."""
    try:
        image = payload.read(path)
    except InfrastructureError as error:
        raise ConfigError(error.message, hint=error.hint) from error
    if image.arch != arch:
        known = image.arch in catalogue.ARCHITECTURES
        raise ConfigError(
            f"{path}: a kernel for {image.arch}, and the cell is for {arch}",
            hint=f"name {image.arch} as `arch` in the matrix, or --arch"
            if known
            else "build a 64-bit kernel",
        )
    return image


def configuration(path: Path, release: str = "") -> str:
    """The text of a kernel's configuration file. Raises ConfigError, also if it is of another series.

    Its first lines name the version, whose last number distributions do not put into the release.
    """
    found = text(path)
    if not _SETTING.search(found):
        raise ConfigError(f"{path}: not a kernel configuration", hint="name the .config of the build")
    named = _CONFIGURED.search(found[:_HEAD])
    if named and release and not re.match(rf"{re.escape(named[1])}(?!\d)", release):
        problem = f"{path}: the configuration of a {named[1]}, and the image is {release}"
        raise ConfigError(problem, hint="name the configuration of the image's own build")
    return found


def text(path: Path) -> str:
    """The text of a file of a kernel's build. Raises ConfigError."""
    try:
        return files.read_regular(path, _MAX_TEXT).decode("utf-8", "replace")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error


def _btf(vmlinux: Path, release: str) -> bytes:
    """The BTF of a vmlinux, empty if it has none. Raises ConfigError if it is not that of the image."""
    with files.open_regular(vmlinux) as file, _mapped(file) as mapped:
        if mapped.find(f"Linux version {release} ".encode()) < 0:
            raise ConfigError(
                f"{vmlinux}: not the vmlinux of {release}", hint="name the one of the same build"
            )
    try:
        return payload.type_information(vmlinux)
    except InfrastructureError:
        return b""


def _mapped(file: Any) -> mmap.mmap:
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise ConfigError(f"{file.name}: the file is empty") from error


def _check_release(modules: Path, release: str) -> None:
    """Raise ConfigError if a module says that it was built for another release."""
    for path in sorted(modules.rglob("*.ko")):
        built_for = _VERSION_MAGIC.search(path.read_bytes())
        if built_for and built_for[1].decode() != release:
            raise ConfigError(
                f"{path.name}: a module of {built_for[1].decode()}, and the image is {release}",
                hint="build and install the modules of the same build: make modules modules_install",
            )
