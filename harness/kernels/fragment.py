"""The source `fragment:` of kernels: Debian's sources, built here with fragments of a configuration."""

from __future__ import annotations

import dataclasses
import re
import shutil
import tempfile
from pathlib import Path

from debian.debian_support import Version

from harness.errors import ConfigError, UnknownKernelError
from harness.host import cache
from harness.host.cache import Cache
from harness.host.progress import Phase, Progress, Step
from harness.kernels import archive, build, catalogue, kbuild, kconfig, local
from harness.kernels.index import package as package_of
from harness.kernels.kconfig import BASE, Line
from harness.kernels.local import Parts, fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.kernels.repositories import Repositories
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "listed", "resolve", "watched"]

_ARCH = "amd64"
_MAX_VERSION = 40  # characters of CONFIG_LOCALVERSION, of the 64 of a release
_NO_VERSION = re.compile(r"[^A-Za-z0-9.]+", re.ASCII)


def check(kernel: Kernel, arch: str) -> None:
    """Raise ConfigError for another architecture, and a fragment that cannot be read."""
    if arch != _ARCH:
        raise ConfigError(
            f"{kernel.requested}: fragments are built for {_ARCH} only, and the cell is for {arch}",
            hint=f"exclude the kernel for {arch} in the matrix",
        )
    _lines(kernel)


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """The fragments."""
    del arch
    return tuple(kconfig.path_of(word) for word in (BASE, *kernel.fragment))


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The kernel, built into the cache. Raises HarnessError, with nothing of this kernel cached."""
    packages = archive.locked(kernel, arch, lock) or listed(kernel, arch, progress)
    base, lines = kconfig.read(kconfig.path_of(BASE)), _lines(kernel)
    tools = kbuild.compiler()
    text = kconfig.text(kconfig.merged((base, lines)))
    configuration = Package("configuration", "", cache.digest(text), len(text), kernel.requested)
    inputs = (*packages, configuration, tools)

    def find(scratch: Path) -> Parts:
        key = kbuild.objects_key(packages[0], kconfig.text(base), tools)
        keys = {"kernel-source": kbuild.source_key(packages[0]), "kernel-objects": key}
        lacking = [kind for kind, entry in keys.items() if not store.has(kind, entry)]
        kbuild.check_space(store, (*lacking, "kernels"))
        suite = _suite(packages[0], kernel.linux, arch, progress)
        archived = ResolvedKernel(kernel.name, kernel.linux, "", arch, suite, packages)
        tree = kbuild.source(archived, store, progress)
        if "kernel-objects" in lacking:  # an error now, not after their build
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                kbuild.check(tree, base, lines, Path(folder), store)
        objects = kbuild.objects(tree, key, base, store, progress)
        with kbuild.kernel(tree, objects, lines, store, progress) as folder:
            return _copied(build.find(folder, arch), folder, scratch)

    return local.resolve(kernel, arch, lambda: inputs, find, store, progress)


def listed(kernel: Kernel, arch: str, progress: Progress) -> tuple[Package, ...]:
    """The newest package with the sources that Debian's archives have now. Raises HarnessError."""
    name = f"linux-source-{kernel.linux}"
    progress(Step(Phase.RESOLVE, f"the newest {name}"))
    for suite in catalogue.search_order(kernel.linux):
        apt = Repositories().apt(arch, suite)
        apt.refresh(progress)
        if found := apt.show([name]):
            return (package_of(max(found, key=lambda stanza: Version(stanza["version"]))),)
    raise UnknownKernelError(
        f"{kernel.requested}: Debian's archives have no {name}", hint="name another with linux:, such as 6.12"
    )


def _copied(parts: Parts, folder: Path, scratch: Path) -> Parts:
    """The parts in `folder`, copied to `scratch`."""

    def copy(path: Path) -> Path:
        place = scratch / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(path, place))

    modules = {name: copy(path) for name, path in parts.modules.items()}
    config = copy(parts.config) if parts.config else None
    return dataclasses.replace(parts, image=copy(parts.image), modules=modules, config=config)


def _suite(package: Package, linux: str, arch: str, progress: Progress) -> str:
    """The suite that lists a package, or the first one to search if a newer package has replaced it."""
    order = catalogue.search_order(linux)
    for suite in order:
        apt = Repositories().apt(arch, suite)
        apt.refresh(progress)
        if package.sha256 in (stanza["sha256"] for stanza in apt.show([package.name])):
            return suite
    return order[0]


def _lines(kernel: Kernel) -> tuple[Line, ...]:
    """The lines of the fragments, and one that gives the kernel a release of its own. Raises ConfigError."""
    fragments = [kconfig.read(kconfig.path_of(word)) for word in kernel.fragment if word != BASE]
    names = "-".join(_NO_VERSION.sub("-", Path(word).stem) for word in kernel.fragment)
    version = Line("LOCALVERSION", f'"-fragment-{names[:_MAX_VERSION]}"', "", kernel.name)
    return kconfig.merged((*fragments, (version,)))
