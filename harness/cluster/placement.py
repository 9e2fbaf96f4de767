"""Decides which worker runs which machine; pure data, without Dask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.host.capacity import MACHINE_MIB

MACHINE, KVM, MEMORY = "machine", "kvm", "memory"  # resources; each architecture is one as well
MAX_LOSSES = 2  # of a machine, and of a worker in a row
SHARES = 2  # machines that a worker has at a time: while one runs, the next one is prepared


@dataclass(frozen=True)
class Need:
    """What one machine needs of a worker; `kernel` is the cache key of its kernel, "" if it is not known."""

    machine: str
    arch: str = "amd64"
    kvm: bool = False
    kernel: str = ""
    memory_mib: int = MACHINE_MIB

    @property
    def resources(self) -> dict[str, float]:
        """The resources of Dask that the task holds: its share of a worker."""
        names = {self.arch: 1.0, **({KVM: 1.0} if self.kvm else {})}
        whole = {MACHINE: 1.0, MEMORY: float(self.memory_mib), **names}
        return {name: amount / SHARES for name, amount in whole.items()}


@dataclass
class Worker:
    """One slot of a host. `store` names the cache that it shares with the other workers of its host.

    `accelerators` has "kvm" or "tcg" by architecture. `refused` is the reason why it gets no work, or "".
    """

    address: str
    name: str
    host: str
    store: str = ""
    accelerators: Mapping[str, str] = field(default_factory=dict)
    memory_mib: int = 0
    refused: str = ""

    def lacks(self, need: Need) -> str:
        """Return what the worker lacks for a machine, "" if it can run it."""
        kind = self.accelerators.get(need.arch)
        if kind is None:
            return f"{need.arch} guests"
        if need.kvm and kind != KVM:
            return f"KVM for {need.arch} guests"
        if self.memory_mib < need.memory_mib:
            return f"{need.memory_mib} MiB of memory"
        return ""


@dataclass
class Past:
    """What earlier machines left: cached kernels by store, and addresses of workers that lost a machine.

    A worker that is started again has another address.
    """

    kernels: dict[str, set[str]] = field(default_factory=dict)
    lost_by: dict[str, set[str]] = field(default_factory=dict)


def choose(
    waiting: Sequence[Need], idle: Iterable[Worker], past: Past, workers: Iterable[Worker] = ()
) -> list[tuple[Need, Worker]]:
    """Return the machines to start now, each with its worker.

    `waiting` is in the order of their start. A worker that has the kernel is preferred, then the worker with
    the fewest abilities, so that the others stay free for machines that need them. A machine does not go back
    to a worker that lost it if it can wait for another one of `workers`.
    """
    free = {worker.address: worker for worker in idle if not worker.refused}
    usable = [worker for worker in workers if not worker.refused]
    chosen = []
    for need in waiting if free else ():
        lost_by = past.lost_by.get(need.machine, set())
        elsewhere = any(not (worker.address in lost_by or worker.lacks(need)) for worker in usable)
        able = [
            worker
            for worker in free.values()
            if not worker.lacks(need) and not (elsewhere and worker.address in lost_by)
        ]
        if not able:
            continue
        best = min(able, key=lambda worker: _rank(worker, need, past))
        chosen.append((need, free.pop(best.address)))
        if not free:
            break
    return chosen


def _rank(worker: Worker, need: Need, past: Past) -> tuple[bool, int, str]:
    absent = need.kernel not in past.kernels.get(worker.store, ())
    abilities = len(worker.accelerators) + list(worker.accelerators.values()).count(KVM)
    return absent, abilities, worker.name


def impossible(need: Need, workers: Iterable[Worker]) -> str:
    """Return why no worker can run a machine, "" if one can."""
    usable = [worker for worker in workers if not worker.refused]
    if not usable:
        return "the cluster has no worker that can be used"
    lacks = [worker.lacks(need) for worker in usable]
    return "" if "" in lacks else f"no worker has {' or '.join(dict.fromkeys(lacks))}"
