"""What is asked for, what that turned out to be, and what was fetched: plain data but for the paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.host import cache, resources

# What of a kernel is kept, and how: a new number fetches all kernels again.
LAYOUT = "2"


@dataclass(frozen=True)
class KernelRequest:
    """One kernel of a matrix: a series such as "6.1", which is a word, not a package version."""

    name: str
    series: str
    flavour: str = "cloud"
    arch: str = "amd64"


@dataclass(frozen=True)
class Package:
    """One package exactly: `size` in bytes, `sha256` in hexadecimal, `filename` relative to its archive."""

    name: str
    version: str
    sha256: str
    size: int
    filename: str


@dataclass(frozen=True)
class ResolvedKernel:
    """What the repositories offer for a request; `release` is what `uname -r` says in the guest."""

    name: str
    series: str
    release: str
    arch: str
    suite: str
    packages: tuple[Package, ...]

    @property
    def digest(self) -> str:
        """A key for what is kept of the packages."""
        packages = (package.sha256 for package in self.packages)
        return cache.digest(LAYOUT, self.release, self.arch, *resources.words("guest-modules.txt"), *packages)

    def to_plain(self) -> dict[str, Any]:
        """The same as dictionaries and lists, for JSON."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> ResolvedKernel:
        """The opposite of `to_plain`; raises KeyError or TypeError for anything else."""
        packages = tuple(Package(**package) for package in plain["packages"])
        return cls(**{**plain, "packages": packages})


@dataclass(frozen=True)
class FetchedKernel:
    """A kernel on this disk.

    `modules` is the folder that holds `modules.dep`, with the modules decompressed below it; its name is the
    release. `digest` says what it was made from.
    """

    name: str
    release: str
    arch: str
    packages: tuple[Package, ...]
    vmlinuz: Path
    modules: Path
    config: Path | None
    digest: str
