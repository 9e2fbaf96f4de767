"""What this host can bear: CPUs and memory that are really to be had, limits of a container included.

A limit is that of the process's own cgroup (version 2, as containers see it) where there is one.
"""

from __future__ import annotations

import os
from pathlib import Path

MACHINE_MIB = 512 + 256  # guest memory and what QEMU needs beside it
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def workers_for(machines: int, cpus: int, free_mib: int) -> int:
    """How many machines to run at once; at least one.

    No more than there are, than there are CPUs (a starved guest is a false TIMEOUT), or than fit into memory.
    """
    return max(1, min(machines, cpus, free_mib // MACHINE_MIB))


def free_mib(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """Memory that programs can still have, in MiB; 0 where that cannot be told."""
    available = 0
    for line in meminfo.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) >> 10
    limit, used = _words(cgroup / "memory.max"), _words(cgroup / "memory.current")
    if limit and used and limit[0].isdigit():
        # What is used holds caches that would be given up: the limit is kept, not foretold.
        return min(available, max(0, int(limit[0]) - int(used[0])) >> 20)
    return available


def cpus(cgroup: Path = _CGROUP) -> int:
    """CPUs that this process may use, at least one."""
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
