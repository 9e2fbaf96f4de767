"""A kernel in its three stages: requested, resolved to exact packages, and fetched to this disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.host import cache, resources

LAYOUT = "2"  # of the cached folder: a new number fetches all kernels again


@dataclass(frozen=True)
class KernelRequest:
    """One kernel of a matrix, requested by a series such as "6.1"."""

    name: str
    series: str
    flavour: str = "cloud"
    arch: str = "amd64"


@dataclass(frozen=True)
class Package:
    """One exact file: `size` in bytes, `sha256` in hexadecimal, `filename` relative to its archive.

    Of a file of the user, `name` is its purpose, such as `image`, and `filename` is its absolute path; the
    digest of a folder covers names and contents of the files that are taken from it.
    """

    name: str
    version: str
    sha256: str
    size: int
    filename: str


@dataclass(frozen=True)
class ResolvedKernel:
    """The exact files of one kernel; `release` is what `uname -r` prints in the guest.

    `source` is the key of its module in `sources.SOURCES`. Without an archive `series` and
    `suite` are "". `key` is the cache key, if the source has its own.
    """

    name: str
    series: str
    release: str
    arch: str
    suite: str
    packages: tuple[Package, ...]
    source: str = "series"
    key: str = ""

    @property
    def digest(self) -> str:
        """The cache key of the kernel's files."""
        if self.key:
            return self.key
        packages = (package.sha256 for package in self.packages)
        return cache.digest(LAYOUT, self.release, self.arch, *resources.words("guest-modules.txt"), *packages)

    def to_plain(self) -> dict[str, Any]:
        """The kernel as dictionaries and lists, for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ResolvedKernel:
        """The opposite of `to_plain`. Raises KeyError or TypeError for any other data."""
        packages = tuple(Package(**package) for package in plain["packages"])
        return cls(**{**plain, "packages": packages})


@dataclass(frozen=True)
class FetchedKernel:
    """A kernel on this disk.

    `modules` is the folder with `modules.dep` and the decompressed modules; its name is the release. `digest`
    is that of the resolved kernel. `btf` is a file with the kernel's BTF if that is not in `vmlinuz`.
    """

    name: str
    release: str
    arch: str
    packages: tuple[Package, ...]
    vmlinuz: Path
    modules: Path
    config: Path | None
    digest: str
    btf: Path | None = None
