"""The source `rpm:` of kernels: any rpm repository whose metadata and packages are signed.

repomd.xml is checked with its signature, the list of packages with the digest in repomd.xml, each package
with the digest in that list and with its own signature. Only requirements whose names begin with `kernel` are
followed: kernel-core requires kernel-modules-core; an initramfs generator and firmware are not needed here.
"""

from __future__ import annotations

import base64
import lzma
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

import zstandard

from harness.errors import ConfigError, InfrastructureError, UnknownKernelError
from harness.host.cache import Cache
from harness.host.programs import ProgramError, run
from harness.host.progress import Phase, Progress, Step, bytes_of
from harness.kernels import archive, archives, rpm_metadata, web
from harness.kernels.archive import check, watched
from harness.kernels.local import fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.kernels.rpm_metadata import Candidate, Capability
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "listed", "resolve", "watched"]

_ROOT = Path(__file__).parents[2]
_ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}
_MAX_TEXT = 1 << 20  # bytes of repomd.xml, its signature, and a list of mirrors
_MAX_PACKED = 256 << 20  # bytes of the list of packages
_MAX_PLAIN = 4 << 30
_MIRRORS = 4  # of a list that are tried
_COMPLETE = "use another mirror of the repository, or wait until this one is complete"


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The locked or the newest kernel, taken into the cache. Raises HarnessError."""
    packages = archive.locked(kernel, arch, lock) or listed(kernel, arch, progress)

    def download(wanted: tuple[Package, ...], folder: Path) -> None:
        key = folder.with_name("key.asc")
        key.write_bytes(_armored(archive.keys(Path(kernel.key))))
        bases = _bases(kernel, arch, folder.with_name("mirrors"))
        for number, package in enumerate(wanted):
            step = Step(Phase.FETCH, package.name, total=package.size)
            progress(step)
            path = folder / f"{number}.rpm"
            digest = _fetch_first(bases, package, path, bytes_of(step, progress))
            archive.verify([package], [digest])
            _check_signature(package, path, key, kernel)

    return archive.take(kernel, arch, packages, download, store, progress)


def listed(kernel: Kernel, arch: str, progress: Progress) -> tuple[Package, ...]:
    """The packages of the newest kernel that the repository has now. Raises HarnessError."""
    progress(Step(Phase.RESOLVE, f"the newest {kernel.package or 'kernel'} of {kernel.rpm}"))
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = _candidates(kernel, arch, Path(folder))
        except (ValueError, EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError) as error:
            raise ConfigError(f"{kernel.requested}: damaged metadata: {error}", hint=_COMPLETE) from error
    named = [one for one in found if fnmatchcase(one.package.name, kernel.package or "kernel")]
    if not named:
        raise UnknownKernelError(
            f"{kernel.requested}: the repository has no such package for {_ARCHES[arch]}",
            hint="correct the package, such as kernel, kernel-core or kernel-ml",
        )
    packages = tuple(one.package for one in _with_required(max(named, key=_newest), found))
    archive.bound(kernel, packages)
    return packages


def _fetch_first(bases: Sequence[str], package: Package, path: Path, percent: Callable[[float], None]) -> str:
    """Fetch a package from the first mirror that has it, and return its SHA-256. Raises HarnessError."""

    def received(size: int) -> None:
        percent(100 * size / max(package.size, 1))

    for base in bases[:-1]:
        try:
            return web.download(f"{base}/{package.filename}", path, package.size, received)
        except InfrastructureError:
            path.unlink(missing_ok=True)
    return web.download(f"{bases[-1]}/{package.filename}", path, package.size, received)


def _newest(candidate: Candidate) -> bytes:
    return bytes(candidate.evr.sortkey())


def _with_required(first: Candidate, found: Sequence[Candidate]) -> list[Candidate]:
    """A package and all of the repository that it needs to be a kernel. Raises ConfigError."""
    taken = [first]
    for candidate in taken:
        for wanted in candidate.requires:
            if not any(one.satisfies(wanted) for have in taken for one in have.provides):
                taken.append(_provider(candidate, wanted, found))
        if len(taken) > archive.MAX_PACKAGES:
            break
    return taken


def _provider(candidate: Candidate, wanted: Capability, found: Sequence[Candidate]) -> Candidate:
    fitting = [one for one in found if any(have.satisfies(wanted) for have in one.provides)]
    if not fitting:
        what = " ".join(filter(None, (wanted.name, wanted.version)))
        raise ConfigError(
            f"{candidate.package.name}: requires {what}, which is not in the repository",
            hint="name another package, or the repository that has all of it",
        )
    return max(fitting, key=_newest)


def _candidates(kernel: Kernel, arch: str, folder: Path) -> list[Candidate]:
    """The packages of the first mirror that answers."""
    bases = _bases(kernel, arch, folder / "mirrors")
    for base in bases[:-1]:
        try:
            return _of_base(kernel, arch, base, Path(tempfile.mkdtemp(dir=folder)))
        except InfrastructureError:
            continue  # the next mirror; the last one's error is reported
    return _of_base(kernel, arch, bases[-1], Path(tempfile.mkdtemp(dir=folder)))


def _of_base(kernel: Kernel, arch: str, base: str, folder: Path) -> list[Candidate]:
    """The packages that the signed metadata at `base` list. Raises HarnessError, ValueError or OSError."""
    repomd, signature, packed = (folder / name for name in ("repomd.xml", "repomd.xml.asc", "primary"))
    web.download(f"{base}/repodata/repomd.xml", repomd, _MAX_TEXT)
    try:
        web.download(f"{base}/repodata/repomd.xml.asc", signature, _MAX_TEXT)
    except web.AbsentError as error:
        raise ConfigError(
            f"{base}: the metadata are not signed: there is no repodata/repomd.xml.asc",
            hint="use a repository that signs its metadata",
        ) from error
    _check_metadata(kernel, repomd, signature, folder)
    primary = rpm_metadata.primary(repomd.read_bytes())
    if primary.size > _MAX_PACKED:
        raise ConfigError(f"{base}: metadata of more than {_MAX_PACKED >> 20} MiB", hint=_COMPLETE)
    if web.download(f"{base}/{primary.path}", packed, primary.size) != primary.sha256:
        raise ConfigError(f"{base}/{primary.path}: not the file that repomd.xml names", hint=_COMPLETE)
    with packed.open("rb") as file, archives.decompressed(file) as plain:
        return list(rpm_metadata.candidates(_Bounded(plain), _ARCHES[arch]))


def _check_metadata(kernel: Kernel, repomd: Path, signature: Path, folder: Path) -> None:
    """Raise ConfigError unless a key of the user signed repomd.xml."""
    keyring = folder / "key.gpg"
    keyring.write_bytes(archive.keys(Path(kernel.key)))
    hint = f"{kernel.key} must have the key that signs this repository"
    words = ("--status-fd", "1", "--homedir", folder, "--keyring", keyring, signature, repomd)
    try:
        status = run(["gpgv", *words], package="gpgv")
    except ProgramError as error:
        what = f"{kernel.requested}: wrong signature of repomd.xml: {error.message}"
        raise ConfigError(what, hint=hint) from error
    if "\n[GNUPG:] GOODSIG " not in status:  # gpgv ends with 0 also if the key has expired
        raise ConfigError(f"{kernel.requested}: the key that signed repomd.xml has expired", hint=hint)


def _check_signature(package: Package, path: Path, key: Path, kernel: Kernel) -> None:
    """Raise ConfigError unless a key of the user signed the package."""
    try:
        run([sys.executable, "-m", "harness.kernels.rpm", path, key], cwd=_ROOT)
    except ProgramError as error:
        cause = error.message.rpartition("Error: ")[2]  # the last line of a traceback
        raise ConfigError(
            f"{package.name}: the package is not signed with a key of {kernel.key}: {cause}",
            hint="add the key that signs the packages to that file, if you trust it",
        ) from error


def _bases(kernel: Kernel, arch: str, scratch: Path) -> list[str]:
    """The addresses of the repository: its own, or the first of its list of mirrors. Raises HarnessError."""
    words = {"$releasever": kernel.releasever, "$basearch": _ARCHES[arch], "$arch": _ARCHES[arch]}
    url = kernel.rpm
    for word, value in words.items():
        url = url.replace(word, value)
    if not kernel.mirrorlist:
        return [url.rstrip("/")]
    web.download(url, scratch, _MAX_TEXT)
    lines = (line.strip() for line in scratch.read_text(errors="replace").splitlines())
    found = [line.rstrip("/") for line in lines if line.startswith(("http://", "https://"))]
    if not found:
        raise ConfigError(f"{url}: not a list of mirrors", hint="remove `mirrorlist`, or correct the address")
    return found[:_MIRRORS]


def _armored(keys: bytes) -> bytes:
    text = base64.encodebytes(keys).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}-----END PGP PUBLIC KEY BLOCK-----\n".encode()


class _Bounded:
    """Reads at most `_MAX_PLAIN` bytes; ValueError if there are more."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = _MAX_PLAIN

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"more than {_MAX_PLAIN >> 30} GiB when decompressed")
        return data
