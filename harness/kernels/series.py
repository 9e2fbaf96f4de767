"""The source `series:` of kernels: the newest of a series in Debian's archives."""

from __future__ import annotations

from pathlib import Path

from harness.host.cache import Cache
from harness.host.progress import Phase, Progress, Step
from harness.kernels import catalogue, fetcher, headers, resolver
from harness.kernels.headers import Headers
from harness.kernels.lock import NAME, Lock
from harness.kernels.model import FetchedKernel, KernelRequest, ResolvedKernel
from harness.plan.matrix import Kernel


def check(kernel: Kernel, arch: str) -> None:
    """Raise ConfigError for an unknown flavour or architecture."""
    catalogue.flavour(kernel.flavour)
    catalogue.architecture(arch)


def watched(kernel: Kernel, arch: str) -> tuple[Path, ...]:
    """No file: an archive's kernel does not change during a run."""
    del kernel, arch
    return ()


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The locked kernel, or the newest of its series. Raises what `resolver.resolve` raises."""
    del store  # nothing is fetched yet
    request = request_of(kernel, arch)
    known = lock.find(request) if lock else None
    if known:
        return known
    if lock:
        progress(f"{kernel.name}: not in {NAME}, taking the newest; `harness kernels lock` adds it")
    progress(Step(Phase.RESOLVE, f"the newest {kernel.series}"))
    return resolver.resolve(request, progress=progress)


def request_of(kernel: Kernel, arch: str) -> KernelRequest:
    """The request for a kernel of the matrix."""
    return KernelRequest(kernel.name, kernel.series, kernel.flavour, arch)


def fetch(resolved: ResolvedKernel, store: Cache, progress: Progress) -> FetchedKernel:
    """The kernel's files, from the cache or from the archive. Raises InfrastructureError."""
    return fetcher.fetch(resolved, store, progress)


def fetch_headers(resolved: ResolvedKernel, store: Cache, progress: Progress) -> Headers:
    """The headers of exactly this kernel. Raises InfrastructureError."""
    return headers.fetch_headers(resolved, store, progress)
