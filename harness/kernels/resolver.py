"""Resolves a series to exact packages: the newest complete kernel of the first suite that has one."""

from __future__ import annotations

from debian.debian_support import Version

from harness.errors import UnknownKernelError
from harness.host.progress import Progress, silent
from harness.kernels import catalogue
from harness.kernels.catalogue import Flavour
from harness.kernels.index import Candidate, candidates
from harness.kernels.model import KernelRequest, ResolvedKernel
from harness.kernels.repositories import Repositories


def resolve(
    request: KernelRequest,
    arch: str = "",
    *,
    repositories: Repositories | None = None,
    progress: Progress = silent,
) -> ResolvedKernel:
    """The newest complete kernel for a request; `arch`, if given, replaces the request's own.

    Uses the network only if an index is not recent. Raises ConfigError for an unknown flavour or
    architecture, UnknownKernelError, which names the available series, if no suite has a complete kernel of
    this series, and InfrastructureError if an index cannot be fetched.
    """
    repositories = repositories or Repositories()
    arch = catalogue.architecture(arch or request.arch).name
    flavour = catalogue.flavour(request.flavour)
    seen: list[Candidate] = []
    for suite in catalogue.search_order(request.series):
        offered = _offered(repositories, suite, flavour, arch, progress)
        for candidate in offered:
            if candidate.series == request.series and not candidate.missing:
                return _resolved(request, arch, suite, candidate)
        seen += offered
    raise _unavailable(request, arch, seen)


def older(
    than: ResolvedKernel, request: KernelRequest, *, repositories: Repositories | None = None
) -> ResolvedKernel | None:
    """The next older complete kernel of the same series and suite; None if the index names no other."""
    apt = (repositories or Repositories()).apt(than.arch, than.suite)
    of_series = [
        kernel
        for kernel in candidates(apt, catalogue.flavour(request.flavour))
        if kernel.series == than.series and not kernel.missing
    ]
    bound = Version(than.packages[0].version)
    left = (kernel for kernel in of_series if kernel.version < bound)
    return next((_resolved(request, than.arch, than.suite, kernel) for kernel in left), None)


def available(
    flavour: str = "cloud",
    arch: str = "amd64",
    *,
    repositories: Repositories | None = None,
    progress: Progress = silent,
) -> list[ResolvedKernel]:
    """The newest complete kernel of each series in all suites, oldest series first, named like its series.

    If two suites have a series, the kernel is the one that `resolve` returns. Raises what `resolve` raises.
    """
    repositories = repositories or Repositories()
    arch = catalogue.architecture(arch).name
    kind = catalogue.flavour(flavour)
    offers = {suite: _offered(repositories, suite, kind, arch, progress) for suite in catalogue.SUITES}
    series = {kernel.series for offered in offers.values() for kernel in offered if not kernel.missing}
    return [_first(offers, KernelRequest(name, name, flavour, arch)) for name in sorted(series, key=Version)]


def _first(offers: dict[str, list[Candidate]], request: KernelRequest) -> ResolvedKernel:
    return next(
        _resolved(request, request.arch, suite, candidate)
        for suite in catalogue.search_order(request.series)
        for candidate in offers[suite]
        if candidate.series == request.series and not candidate.missing
    )


def _offered(
    repositories: Repositories, suite: str, flavour: Flavour, arch: str, progress: Progress
) -> list[Candidate]:
    apt = repositories.apt(arch, suite)
    apt.refresh(progress)
    return candidates(apt, flavour)


def _resolved(request: KernelRequest, arch: str, suite: str, candidate: Candidate) -> ResolvedKernel:
    return ResolvedKernel(request.name, request.series, candidate.release, arch, suite, candidate.packages)


def _unavailable(request: KernelRequest, arch: str, seen: list[Candidate]) -> UnknownKernelError:
    complete = sorted({kernel.series for kernel in seen if not kernel.missing}, key=Version)
    broken = [kernel for kernel in seen if kernel.series == request.series]
    why = f": {broken[0].release} lacks {', '.join(broken[0].missing)}" if broken else ""
    kind = f"({request.flavour}, {arch})"
    what = f"kernel {request.name!r}: the repositories have no complete {request.series!r} {kind}"
    return UnknownKernelError(what + why, hint=catalogue.choices(request.series, complete))
