"""Makes the lock of a matrix, and finds series that are newer than the lock."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import HarnessError, InfrastructureError, UnknownKernelError
from harness.host.progress import Progress, silent
from harness.kernels import KernelRequest, Lock, ResolvedKernel, available, catalogue, resolve, series
from harness.kernels.lock import Key, key_of
from harness.plan.cells import expand
from harness.plan.matrix import Matrix


def requests(matrix: Matrix) -> list[KernelRequest]:
    """Every kernel of Debian's archives that an entry of the matrix requests, with any tags; each once."""
    unique: dict[tuple[str, str, str], KernelRequest] = {}
    for cell in (candidate.cell for candidate in expand(matrix) if not candidate.excluded):
        if cell.kernel.source == "series":
            request = series.request_of(cell.kernel, cell.arch)
            unique.setdefault(key_of(request), request)
    return list(unique.values())


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
    if errors and len(errors) == len(requests(matrix)):
        raise errors[0]
    known = tuple(kernel.series for kernel in available(progress=say)) if update or not old else old.known
    return Lock(kernels, known), errors


def new_series(
    available: Iterable[ResolvedKernel], matrix: Matrix, lock: Lock | None
) -> list[ResolvedKernel]:
    """The kernels of series that no entry requests and that appeared after the matrix was locked.

    Without a lock, those of series that the catalogue does not list.
    """
    known = set(lock.known if lock else catalogue.HOMES) | {request.series for request in requests(matrix)}
    return [kernel for kernel in available if kernel.series not in known]
