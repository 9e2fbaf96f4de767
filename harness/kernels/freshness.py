"""Makes the lock of a matrix, and finds series that are newer than the lock."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import ConfigError, HarnessError, InfrastructureError, UnknownKernelError
from harness.host.progress import Progress, silent
from harness.kernels import (
    KernelRequest,
    Lock,
    Package,
    ResolvedKernel,
    available,
    catalogue,
    resolve,
    series,
    sources,
)
from harness.kernels.lock import ArchiveKey, Key, key_of
from harness.plan.cells import expand
from harness.plan.matrix import Kernel, Matrix


def requests(matrix: Matrix) -> list[KernelRequest]:
    """Every kernel of Debian's archives that an entry of the matrix requests, with any tags; each once."""
    unique: dict[tuple[str, str, str], KernelRequest] = {}
    for cell in (candidate.cell for candidate in expand(matrix) if not candidate.excluded):
        if cell.kernel.source == "series":
            request = series.request_of(cell.kernel, cell.arch)
            unique.setdefault(key_of(request), request)
    return list(unique.values())


def of_archives(matrix: Matrix) -> dict[ArchiveKey, Kernel]:
    """Every kernel of the sources `apt` and `rpm` that an entry of the matrix requests."""
    cells = (candidate.cell for candidate in expand(matrix) if not candidate.excluded)
    return {
        (cell.kernel.requested, cell.arch): cell.kernel
        for cell in cells
        if cell.kernel.source in sources.ARCHIVES
    }


def make(
    matrix: Matrix, old: Lock | None, *, update: bool, say: Progress = silent
) -> tuple[Lock, list[HarnessError]]:
    """The lock of a matrix: kernels in `old` stay unless `update`; all others are the newest available.

    Also returns the errors of kernels that cannot be resolved; these keep their entry in `old`.
    Raises HarnessError if no kernel can be resolved.
    """
    kernels: dict[Key, ResolvedKernel] = {}
    errors: list[HarnessError] = []
    for request in requests(matrix):
        before = old.find(request) if old else None
        try:
            kernels[key_of(request)] = (before if not update else None) or resolve(request, progress=say)
        except (UnknownKernelError, InfrastructureError) as error:
            errors.append(error)
            if before:
                kernels[key_of(request)] = before
    archives: dict[ArchiveKey, tuple[Package, ...]] = {}
    for key, kernel in of_archives(matrix).items():
        packages = old.archives.get(key) if old else None
        try:
            sources.check(kernel, key[1])
            archive = sources.ARCHIVES[kernel.source]
            archives[key] = (packages if not update else None) or archive.listed(kernel, key[1], say)
        except (ConfigError, InfrastructureError) as error:
            errors.append(error)
            if packages:
                archives[key] = packages
    if errors and len(errors) == len(requests(matrix)) + len(of_archives(matrix)):
        raise errors[0]
    if requests(matrix) and (update or not old):
        known = tuple(kernel.series for kernel in available(progress=say))
    else:
        known = old.known if old else ()
    return Lock(kernels, known, archives), errors


def new_series(
    available: Iterable[ResolvedKernel], matrix: Matrix, lock: Lock | None
) -> list[ResolvedKernel]:
    """The kernels of series that no entry requests and that appeared after the matrix was locked.

    Without a lock, those of series that the catalogue does not list.
    """
    known = set(lock.known if lock else catalogue.HOMES) | {request.series for request in requests(matrix)}
    return [kernel for kernel in available if kernel.series not in known]
