"""Reports how many machines this host can run: available CPUs and memory, within the limits of a container.

The limits are those of the process's own cgroup (version 2, as containers see it).
"""

from __future__ import annotations

import os
from pathlib import Path

MACHINE_MIB = 512 + 256  # memory of the guest, and of QEMU itself
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def workers_for(machines: int, cpus: int, free_mib: int) -> int:
    """Return how many machines to run at the same time; at least one.

    The limits are the machines, the CPUs (a guest without a CPU ends in a false TIMEOUT) and the memory.
    """
    return max(1, min(machines, cpus, free_mib // MACHINE_MIB))


def free_mib(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Return the memory that new programs can use, in MiB; 0 if the kernel does not report it."""
    available = 0
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) >> 10
    limit, used = _words(cgroup / "memory.max"), _words(cgroup / "memory.current")
    if limit and used and limit[0].isdigit():
        # memory.current includes caches that the kernel would drop, so this is less than programs could use.
        return min(available, max(0, int(limit[0]) - int(used[0])) >> 20)
    return available


def cpus(cgroup: Path = _CGROUP) -> int:
    """Return the number of CPUs that this process may use, at least one."""
    count = len(os.sched_getaffinity(0))
    quota = _words(cgroup / "cpu.max")
    if len(quota) == 2 and quota[0].isdigit():
        return max(1, min(count, int(quota[0]) // int(quota[1])))
    return count


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []
