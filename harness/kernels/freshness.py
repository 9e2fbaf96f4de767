"""Kernels move under a matrix: what is locked, what is newer by now, and which series appeared."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import InfrastructureError, UnknownKernelError
from harness.host.progress import Progress, silent
from harness.kernels import KernelRequest, Lock, ResolvedKernel, available, catalogue, resolve
from harness.kernels.lock import key_of
from harness.plan.cells import expand
from harness.plan.matrix import Matrix


def requests(matrix: Matrix) -> list[KernelRequest]:
    """Every kernel that any entry of the matrix asks for, whatever its tags; each once."""
    found: dict[tuple[str, str, str], KernelRequest] = {}
    for cell in (candidate.cell for candidate in expand(matrix) if not candidate.excluded):
        request = KernelRequest(cell.kernel.name, cell.kernel.series, cell.kernel.flavour, cell.arch)
        found.setdefault(key_of(request), request)
    return list(found.values())


def make(matrix: Matrix, old: Lock | None, *, update: bool, say: Progress = silent) -> Lock:
    """The lock of a matrix: what `old` has stays unless `update`; what it lacks is the newest there is.

    Raises HarnessError.
    """
    kernels = {}
    for request in requests(matrix):
        kept = old.find(request) if old and not update else None
        kernels[key_of(request)] = kept or resolve(request, progress=say)
    known = tuple(kernel.series for kernel in available(progress=say)) if update or not old else old.known
    return Lock(kernels, known)


def moved(matrix: Matrix, lock: Lock, say: Progress = silent) -> list[str]:
    """The names of a matrix's kernels whose newest packages are not the locked ones.

    A kernel that cannot be resolved is among them: running it reports why. Raises ConfigError.
    """
    found: set[tuple[str, str]] = set()
    for request in requests(matrix):
        try:
            newest = resolve(request, progress=say).packages
        except (UnknownKernelError, InfrastructureError):
            newest = ()
        locked = lock.find(request)
        if locked is None or locked.packages != newest:
            found.add((request.series, request.flavour))
    return [kernel.name for kernel in matrix.kernels if (kernel.series, kernel.flavour) in found]


def new_series(there: Iterable[ResolvedKernel], matrix: Matrix, lock: Lock | None) -> list[ResolvedKernel]:
    """What is in the repositories and was not when the matrix was locked, and no entry asks for.

    Without a lock, what the catalogue has never heard of.
    """
    known = set(lock.known if lock else catalogue.HOMES) | {request.series for request in requests(matrix)}
    return [kernel for kernel in there if kernel.series not in known]
