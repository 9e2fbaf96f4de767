"""The sources of kernels: one module for each key of `harness.plan.matrix.SOURCES`.

A kernel goes through three stages, which are the same for all sources: requested (an entry of the matrix),
resolved (its exact files are known by digest), and fetched (its files are in the cache).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from harness.host.cache import Cache
from harness.host.progress import Progress
from harness.kernels import (
    apt_archive,
    archive,
    build,
    fragment,
    image,
    kbuild,
    packages,
    rpm_archive,
    series,
)
from harness.kernels.headers import Headers
from harness.kernels.lock import Lock
from harness.kernels.model import FetchedKernel, Package, ResolvedKernel
from harness.plan.matrix import Kernel


class Source(Protocol):
    """A module that provides kernels.

    Methods raise ConfigError for what the user must change, UnknownKernelError for a kernel that no archive
    has, and InfrastructureError for all else. An error leaves nothing in the cache.
    """

    def check(self, kernel: Kernel, arch: str) -> None:
        """Raise ConfigError for an entry that no archive and no file can satisfy, before any is read."""

    def watched(self, kernel: Kernel, arch: str) -> tuple[Path, ...]:
        """The files of this host whose change makes another kernel, whether they exist or not."""

    def resolve(
        self, kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
    ) -> ResolvedKernel:
        """The exact files of a kernel; its `source` is this module's key."""

    def fetch(self, resolved: ResolvedKernel, store: Cache, progress: Progress) -> FetchedKernel:
        """The kernel's files in the cache."""

    def fetch_headers(self, resolved: ResolvedKernel, store: Cache, progress: Progress) -> Headers | None:
        """The headers of exactly this kernel, with which BCC compiles; None if the kernel holds them."""


class Archive(Source, Protocol):
    """A source that an index describes, so that its packages can be listed and locked without a download."""

    def listed(self, kernel: Kernel, arch: str, progress: Progress) -> tuple[Package, ...]:
        """The packages of the newest kernel that the archive has now, the first of which has its version."""


ARCHIVES: Mapping[str, Archive] = {"apt": apt_archive, "rpm": rpm_archive, "fragment": fragment}
SOURCES: Mapping[str, Source] = {
    "series": series,
    "image": image,
    "build": build,
    "packages": packages,
    **ARCHIVES,
}


def check(kernel: Kernel, arch: str) -> None:
    """See `Source.check`."""
    SOURCES[kernel.source].check(kernel, arch)


def check_host(kernels: Iterable[Kernel]) -> None:
    """Raise ConfigError with the packages that this host lacks, if one of these kernels is built here."""
    if any(kernel.source == "fragment" for kernel in kernels):
        kbuild.check_programs()


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """See `Source.watched`."""
    return SOURCES[kernel.source].watched(kernel, arch)


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """See `Source.resolve`."""
    return SOURCES[kernel.source].resolve(kernel, arch, lock=lock, store=store, progress=progress)


def pinned(kernel: Kernel, arch: str, lock: Lock | None, progress: Progress) -> Lock:
    """A lock that has the packages of an archive's kernel: those of `lock`, or else the newest now.

    Fetches no package. Raises what `Archive.listed` raises.
    """
    packages = archive.locked(kernel, arch, lock) or ARCHIVES[kernel.source].listed(kernel, arch, progress)
    return Lock({}, archives={(kernel.requested, arch): packages})


def fetch(resolved: ResolvedKernel, store: Cache, progress: Progress) -> FetchedKernel:
    """See `Source.fetch`."""
    return SOURCES[resolved.source].fetch(resolved, store, progress)


def fetch_headers(resolved: ResolvedKernel, store: Cache, progress: Progress) -> Headers | None:
    """See `Source.fetch_headers`."""
    return SOURCES[resolved.source].fetch_headers(resolved, store, progress)
