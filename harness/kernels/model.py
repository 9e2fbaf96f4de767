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
    """One exact package: `size` in bytes, `sha256` in hexadecimal, `filename` relative to its archive."""

    name: str
    version: str
    sha256: str
    size: int
    filename: str


@dataclass(frozen=True)
class ResolvedKernel:
    """The packages of one kernel; `release` is what `uname -r` prints in the guest."""

    name: str
    series: str
    release: str
    arch: str
    suite: str
    packages: tuple[Package, ...]

    @property
    def digest(self) -> str:
        """The cache key of the unpacked packages."""
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
    is that of the resolved kernel.
    """

    name: str
    release: str
    arch: str
    packages: tuple[Package, ...]
    vmlinuz: Path
    modules: Path
    config: Path | None
    digest: str
