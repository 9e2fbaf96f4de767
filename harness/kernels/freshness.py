"""Makes the lock of a matrix, and finds series that are newer than the lock."""

from __future__ import annotations

from collections.abc import Iterable

from harness.host.progress import Progress, silent
from harness.kernels import KernelRequest, Lock, ResolvedKernel, available, catalogue, resolve
from harness.kernels.lock import key_of
from harness.plan.cells import expand
from harness.plan.matrix import Matrix


def requests(matrix: Matrix) -> list[KernelRequest]:
    """Every kernel that an entry of the matrix requests, with any tags; each once."""
    unique: dict[tuple[str, str, str], KernelRequest] = {}
    for cell in (candidate.cell for candidate in expand(matrix) if not candidate.excluded):
        request = KernelRequest(cell.kernel.name, cell.kernel.series, cell.kernel.flavour, cell.arch)
        unique.setdefault(key_of(request), request)
    return list(unique.values())


def make(matrix: Matrix, old: Lock | None, *, update: bool, say: Progress = silent) -> Lock:
    """The lock of a matrix: kernels in `old` stay unless `update`; all others are the newest available.

    Raises HarnessError.
    """
    kernels = {}
    for request in requests(matrix):
        kept = old.find(request) if old and not update else None
        kernels[key_of(request)] = kept or resolve(request, progress=say)
    known = tuple(kernel.series for kernel in available(progress=say)) if update or not old else old.known
    return Lock(kernels, known)


def new_series(
    available: Iterable[ResolvedKernel], matrix: Matrix, lock: Lock | None
) -> list[ResolvedKernel]:
    """The kernels of series that no entry requests and that appeared after the matrix was locked.

    Without a lock, those of series that the catalogue does not list.
    """
    known = set(lock.known if lock else catalogue.HOMES) | {request.series for request in requests(matrix)}
    return [kernel for kernel in available if kernel.series not in known]
