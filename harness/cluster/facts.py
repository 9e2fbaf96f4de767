"""What a worker knows of its host, and why a host cannot be used."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.cluster.placement import KVM, MACHINE, MEMORY
from harness.errors import HarnessError
from harness.host import cache, capacity
from harness.host.version import digest_of_harness
from harness.kernels.catalogue import ARCHITECTURES
from harness.results.model import Host
from harness.run import hosts
from harness.run.machines import Bench
from harness.text import one_line

LEAST_DISK_MIB = 1024
HOST = "HARNESS_CLUSTER_HOST"  # environment: the name of this host in the results
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Facts(BaseModel):
    """`accelerators` has "kvm" or "tcg" by architecture, `problems` why an architecture has none.

    `store` is equal for all workers that share a cache, and `kernels` has the cache keys of kernels in it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    versions: dict[str, str]
    host: Host
    store: str
    accelerators: dict[str, str]
    problems: tuple[str, ...] = ()
    disk_mib: int
    free_mib: int
    kernels: tuple[str, ...] = ()

    @property
    def resources(self) -> dict[str, float]:
        """The resources of Dask that a worker of this host has by default."""
        found = {MACHINE: 1.0, MEMORY: float(self.free_mib), **dict.fromkeys(self.accelerators, 1.0)}
        return {**found, KVM: 1.0} if KVM in self.accelerators.values() else found


def resources_of(facts: Facts, known: Mapping[str, float]) -> dict[str, float]:
    """Return the resources of Dask that a worker with these facts has and does not declare yet."""
    return {name: amount for name, amount in facts.resources.items() if name not in known}


def of_host(bench: Bench) -> Facts:
    """Return the facts of this host; ends machines of dead runs, and runs the canary if it is not known."""
    bench.reap()
    kinds: dict[str, str] = {}
    problems = []
    for arch in ARCHITECTURES:
        try:
            kinds[arch], _why = bench.accelerator(arch)
        except HarnessError as error:
            problems.append(f"{arch}: {one_line(error.message)}")
    root = cache.default_root()
    return Facts(
        versions=versions(),
        host=hosts.this(hosts.plain(os.environ.get(HOST, "")) or hosts.name()),
        store=f"{_BOOT_ID.read_text(encoding='ascii').strip()} {root}",
        accelerators=kinds,
        problems=tuple(problems),
        disk_mib=free_disk_mib(),
        free_mib=capacity.free_mib(),
        kernels=cached_kernels(),
    )


def free_disk_mib() -> int:
    """Return the free space of the disk with the cache, which holds the folders of parts too, in MiB."""
    root = cache.default_root()
    nearest = next(path for path in (root, *root.parents) if path.exists())
    return shutil.disk_usage(nearest).free >> 20


def cached_kernels() -> tuple[str, ...]:
    """Return the cache keys of the kernels that need not be fetched."""
    folder = cache.default_root() / "kernels"
    return tuple(sorted(path.parent.name for path in folder.glob("*/content"))) if folder.is_dir() else ()


@functools.cache
def versions() -> dict[str, str]:
    """Return the versions that must be equal on all hosts; that of the harness includes its sources."""
    return {
        "harness": f"{version('fim-harness')} ({digest_of_harness()[:12]})",
        "distributed": version("distributed"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
    }


def differs(theirs: Mapping[str, str], what: str) -> str:
    """Return how versions differ from those of this host, with both numbers; "" if they are equal."""
    for name, ours in versions().items():
        if theirs.get(name) != ours:
            return f"{what} has {name} {theirs.get(name, 'none')}, this host has {ours}"
    return ""


def refusal(facts: Facts) -> str:
    """Return why a worker with these facts gets no work, "" if it gets some."""
    if different := differs(facts.versions, "it"):
        return different
    if not facts.accelerators:
        return f"its canary failed: {'; '.join(facts.problems)}"
    if facts.disk_mib < LEAST_DISK_MIB:
        return f"only {facts.disk_mib} MiB of its disk are free, {LEAST_DISK_MIB} are needed"
    return ""
