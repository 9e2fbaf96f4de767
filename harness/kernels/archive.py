"""Takes a kernel out of an archive that the user names: what the sources `apt` and `rpm` share.

The archive's signature is checked with keys from a file of the user. Packages are read as hostile input, like
packages that the user names. The key of the cache is made of the digests of the packages.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from harness.errors import ConfigError
from harness.host import cache, files
from harness.host.cache import Cache
from harness.host.progress import Progress
from harness.kernels import archives, build, local
from harness.kernels.local import Parts
from harness.kernels.lock import Lock
from harness.kernels.model import Package, ResolvedKernel
from harness.plan.matrix import Kernel

MAX_BYTES = 4 << 30  # of all packages of a kernel
MAX_PACKAGES = 16
_MAX_KEY = 1 << 20
_ARMOR = re.compile(
    r"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(?:[^\n]+\n)*?\r?\n([A-Za-z0-9+/=\s]+?)(?:^=[^\n]*\s)?"
    r"-----END PGP PUBLIC KEY BLOCK-----",
    re.MULTILINE,
)
_PUBLIC_KEYS = (0x98, 0x99, 0x9A, 0xC6)  # first byte of a packet with a public key (RFC 4880, 4.2 and 4.3)

Download = Callable[[tuple[Package, ...], Path], None]
"""Fetches packages into an empty folder, with their signatures checked. Raises HarnessError."""


def check(kernel: Kernel, arch: str) -> None:
    """Raise ConfigError for an unknown architecture, or a file that has no public keys."""
    local.check(kernel, arch)
    keys(Path(kernel.key))


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """No file: an archive's kernel does not change during a run."""
    del kernel, arch
    return ()


def locked(kernel: Kernel, arch: str, lock: Lock | None) -> tuple[Package, ...]:
    """The packages that a lock has for a kernel; empty if it has none."""
    return lock.archives.get((kernel.requested, arch), ()) if lock else ()


def take(
    kernel: Kernel,
    arch: str,
    packages: tuple[Package, ...],
    download: Download,
    store: Cache,
    progress: Progress,
) -> ResolvedKernel:
    """The kernel in these packages, from the cache or downloaded into it. Raises HarnessError."""
    bound(kernel, packages)

    def find(scratch: Path) -> Parts:
        fetched, tree = scratch / "packages", scratch / "tree"
        fetched.mkdir()
        tree.mkdir()
        download(packages, fetched)
        verify(packages, {cache.file_digest(path) for path in fetched.iterdir()})
        for path in sorted(fetched.iterdir()):
            archives.unpack(path, tree)
        return build.find(tree, arch, Path(packages[0].filename))

    return local.resolve(kernel, arch, lambda: packages, find, store, progress)


def bound(kernel: Kernel, packages: tuple[Package, ...]) -> None:
    """Raise ConfigError for more packages or bytes than a kernel has."""
    size = sum(package.size for package in packages)
    if len(packages) > MAX_PACKAGES or size > MAX_BYTES:
        raise ConfigError(
            f"{kernel.requested}: {len(packages)} packages of {size >> 20} MiB, "
            f"more than {MAX_PACKAGES} or {MAX_BYTES >> 20} MiB",
            hint="name the package of one kernel",
        )


def verify(packages: Iterable[Package], fetched: Collection[str]) -> None:
    """Raise ConfigError unless each package is one of the `fetched` files, of which this has the SHA-256."""
    for package in packages:
        if package.sha256 not in fetched:
            raise ConfigError(
                f"{package.name}: the fetched file is not the one that the archive's index names",
                hint="use another mirror of the archive, or wait until this one is complete",
            )


def keys(path: Path) -> bytes:
    """The binary OpenPGP public keys of a file, armoured or not. Raises ConfigError."""
    local.regular(path, _MAX_KEY)
    data = files.read_regular(path, _MAX_KEY)
    if data.startswith(b"-----BEGIN PGP"):
        data = b"".join(map(_plain, _ARMOR.findall(data.decode("ascii", "replace"))))
    if not data or data[0] not in _PUBLIC_KEYS:
        raise ConfigError(
            f"{path}: not a file of OpenPGP public keys",
            hint="write one from a key that you trust: gpg --export KEY >FILE",
        )
    return data


def _plain(armored: str) -> bytes:
    try:
        return base64.b64decode("".join(armored.split()), validate=True)
    except binascii.Error:
        return b""
