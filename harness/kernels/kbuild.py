"""Builds kernels from Debian's linux-source package.

    kernel-source/KEY    the unpacked sources; nothing is written into them
    kernel-objects/KEY   the objects of the base configuration, made by a source and a compiler
    kernel-build/        the folder in which make runs, one build at a time

A kernel is built in a copy of those objects, so make compiles only what its configuration changes. The copy
must have the path at which they were made: the commands that make objtool contain it, and make compiles all
objects again for another objtool.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from harness.errors import ConfigError
from harness.host import background, cache, locks
from harness.host.cache import MIB, Cache
from harness.host.programs import run
from harness.host.progress import Phase, Progress, Step
from harness.kernels import fetcher, kconfig
from harness.kernels.kconfig import Line
from harness.kernels.model import Package, ResolvedKernel
from harness.kernels.repositories import Repositories

LAYOUT = "1"  # of sources and objects: a new number makes all of them again
LOG = "kernel-build.log"  # in the cache: the output of the last build that failed
SPACE = {"kernel-source": 2400 * MIB, "kernel-objects": 3000 * MIB, "kernels": 3000 * MIB}

_PROGRAMS = {
    "gcc": "gcc",
    "ld": "binutils",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "pahole": "dwarves",
    "perl": "perl",
    "zstd": "zstd",
    "cpio": "cpio",
    "xz": "xz-utils",
    "depmod": "kmod",
}
_HEADERS = {"gelf.h": "libelf-dev", "openssl/opensslv.h": "libssl-dev"}
_INCLUDE = Path("/usr/include")
_SBIN = "/usr/sbin:/sbin"
_IDENTITIES = (("gcc", "--version"), ("ld", "--version"), ("pahole", "--version"))
# The same sources and configuration give the same kernel, whoever builds it and when.
_ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "KBUILD_BUILD_TIMESTAMP": "Thu Jan  1 00:00:00 UTC 1970",
    "KBUILD_BUILD_USER": "harness",
    "KBUILD_BUILD_HOST": "harness",
}
_KEPT = ("PATH", "HOME", "TMPDIR")  # of our environment; MAKEFLAGS, ARCH or CC would change the kernel
_ERROR = re.compile(
    r"\berror: |\bError \d|undefined reference|No rule to make|^BTF\b.*failed|cannot |not found"
)
_DISK_FULL = "No space left on device"
_COMPILED = re.compile(r"  (?:CC|AS|LD|AR)\b")


def missing() -> dict[str, str]:
    """The programs and headers that this host lacks to build a kernel, each with its Debian package."""
    path = f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"
    programs = {name: package for name, package in _PROGRAMS.items() if not shutil.which(name, path=path)}
    headers = {name: package for name, package in _HEADERS.items() if not any(_found(name))}
    return {**programs, **headers}


def _found(header: str) -> Iterator[Path]:
    yield from _INCLUDE.glob(header)
    yield from _INCLUDE.glob(f"*-linux-gnu/{header}")


def check_programs() -> None:
    """Raise ConfigError with the command that installs what is missing."""
    if lacking := missing():
        raise ConfigError(
            f"a kernel of a fragment is built here, and this host lacks {', '.join(lacking)}",
            hint=f"apt-get install {' '.join(dict.fromkeys(lacking.values()))}",
        )


def compiler() -> Package:
    """The record of the compiler, the linker and pahole: their first lines, and the digest of these."""
    lines = [run(argv).partition("\n")[0] for argv in _IDENTITIES]
    return Package("compiler", lines[0].rpartition(" ")[2], cache.digest(*lines), 0, lines[0])


def check_space(store: Cache, kinds: Collection[str]) -> None:
    """Raise ConfigError unless the cache has room for entries of these kinds."""
    needed = sum(SPACE[kind] for kind in kinds)
    store.root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(store.root).free
    if free < needed:
        raise ConfigError(
            f"no disk space in {store.root} to build a kernel: {free // MIB} MiB free, "
            f"{needed // MIB} MiB needed",
            hint="free some, run `harness clean`, or set XDG_CACHE_HOME to a larger disk",
        )


def source(package: ResolvedKernel, store: Cache, progress: Progress) -> Path:
    """The unpacked sources of a linux-source package. Raises HarnessError."""

    def build(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            scratch = Path(name)
            tree = fetcher.unpacked(package, Repositories(), scratch, progress)
            progress(Step(Phase.IMAGE, f"the sources of {package.packages[0].version}"))
            archive = next((tree / "usr/src").glob("linux-source-*.tar.xz"))
            run(["tar", "-C", folder, "--strip-components=1", "-xf", archive], package="tar")

    return store.get(
        "kernel-source", source_key(package.packages[0]), build, progress=progress, verified=False
    )


def source_key(package: Package) -> str:
    """The cache key of the sources in a package."""
    return cache.digest(LAYOUT, package.sha256)


def objects_key(package: Package, base: str, tools: Package) -> str:
    """The cache key of the objects of the base configuration `base`."""
    return cache.digest(LAYOUT, source_key(package), base, tools.sha256)


def check(tree: Path, base: tuple[Line, ...], lines: tuple[Line, ...], folder: Path, store: Cache) -> None:
    """Configure a kernel in `folder`, so that a line that does not survive is found before the build.

    Raises ConfigError.
    """
    _configure_base(tree, base, folder, store)
    _configure(tree, lines, folder, store)


def _configure_base(tree: Path, base: tuple[Line, ...], folder: Path, store: Cache) -> None:
    (folder / ".base").write_text(kconfig.text(base))
    _make(tree, folder, ["allnoconfig"], store, environment={"KCONFIG_ALLCONFIG": f"{folder}/.base"})
    kconfig.check(base, (folder / ".config").read_text(), tree)


def _configure(tree: Path, lines: tuple[Line, ...], folder: Path, store: Cache) -> None:
    with (folder / ".config").open("a") as file:
        file.write(kconfig.text(lines))
    _make(tree, folder, ["olddefconfig"], store)
    kconfig.check(lines, (folder / ".config").read_text(), tree)


def objects(tree: Path, key: str, base: tuple[Line, ...], store: Cache, progress: Progress) -> Path:
    """The objects of the base configuration. Raises ConfigError if it does not build."""

    def build(folder: Path) -> None:
        with _place(store) as place:
            _configure_base(tree, base, place, store)
            _make(tree, place, ["all"], store, _counted("the base kernel", 0, progress))
            for path in place.glob("*vmlinux*"):  # each kernel links its own; these are half of the bytes
                path.unlink()
            place.rename(folder)

    return store.get("kernel-objects", key, build, progress=progress, verified=False)


@contextlib.contextmanager
def kernel(
    tree: Path, base: Path, lines: tuple[Line, ...], store: Cache, progress: Progress
) -> Iterator[Path]:
    """Build the kernel of `lines` in a copy of the objects in `base`; yield the folder, which then goes.

    Raises ConfigError if a line does not survive, or if the kernel does not build.
    """
    with _place(store) as place:
        run(["cp", "-a", "--reflink=auto", f"{base}/.", place], package="coreutils")
        _configure(tree, lines, place, store)
        total = sum(1 for _ in base.rglob("*.o"))
        _make(tree, place, ["all"], store, _counted("the kernel, at most", total, progress))
        yield place


@contextlib.contextmanager
def _place(store: Cache) -> Iterator[Path]:
    """The empty folder in which make runs, with its lock; the names are those of a cache entry being made."""
    place = store.root / "kernel-build/tree.partial"
    with locks.locked(place.with_suffix(".lock")):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _counted(what: str, total: int, progress: Progress) -> Callable[[str], None]:
    """A reader of make's output that reports how many objects were made."""
    made = 0

    def read(line: str) -> None:
        nonlocal made
        if _COMPILED.match(line):
            made += 1
            progress(Step(Phase.IMAGE, what, done=made, total=max(total, made)))

    return read


def _make(
    tree: Path,
    folder: Path,
    words: list[str],
    store: Cache,
    read: Callable[[str], None] = lambda _line: None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run make for the sources in `tree` with its output in `folder`. Raises ConfigError."""
    jobs = len(os.sched_getaffinity(0))
    argv = ["make", "-C", str(tree), f"O={folder}", f"-j{jobs}", *words]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    settings = {**kept, **_ENVIRONMENT, **(environment or {})}
    settings["PATH"] = f"{settings.get('PATH', os.defpath)}:{_SBIN}"
    output: list[str] = []
    failure = ""
    with _group(argv, settings) as process:
        assert process.stdout
        for line in process.stdout:
            output.append(line)
            read(line)
            failure = failure or (line.strip() if _ERROR.search(line) else "")
            if _DISK_FULL in line:
                failure = line.strip()
    if process.returncode == 0:
        return
    if _DISK_FULL in failure:
        check_space(store, SPACE)
        raise ConfigError(f"no disk space in {store.root} to build a kernel", hint="free some and run again")
    log = store.root / LOG
    log.write_text("".join(output), encoding="utf-8")
    raise ConfigError(
        f"the kernel does not build: {failure or f'make ended with status {process.returncode}'}",
        hint=f"see all of the output in {log}",
    )


@contextlib.contextmanager
def _group(argv: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that has a process group of its own, all of which ends with the block."""
    with background.child(
        argv,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    ) as process:
        try:
            yield process
            process.wait()
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
