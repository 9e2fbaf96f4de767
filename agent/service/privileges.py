"""Reduces the agent's privileges to the capabilities that it needs.

`drop` is permanent: no child process can have other capabilities (bounding set), none can gain any
(no_new_privs), and none are inherited (ambient and inheritable sets empty).

Capabilities belong to threads, and a new thread gets those of its creator. Call `drop` before the first
thread is started. Numbers are those of linux/capability.h and linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path

from agent.errors import AgentError

CAP_DAC_READ_SEARCH = 2
CAP_SYS_PTRACE = 19
CAP_SYS_RESOURCE = 24
CAP_PERFMON = 38
CAP_BPF = 39

_WHY = {
    CAP_BPF: "maps, filters that change with the rules",
    CAP_PERFMON: "programs that read kernel memory",
    CAP_DAC_READ_SEARCH: "files to hash, cgroups, processes of all users",
    CAP_SYS_PTRACE: "programs and roots of processes in /proc",
    CAP_SYS_RESOURCE: "memory for maps, which counted against a limit before 5.11",
}
_NAMES = {
    CAP_BPF: "CAP_BPF",
    CAP_PERFMON: "CAP_PERFMON",
    CAP_DAC_READ_SEARCH: "CAP_DAC_READ_SEARCH",
    CAP_SYS_PTRACE: "CAP_SYS_PTRACE",
    CAP_SYS_RESOURCE: "CAP_SYS_RESOURCE",
}

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


def needed(release: str | None = None) -> frozenset[int]:
    """Return the capabilities that the agent needs on a kernel release, by default on this kernel."""
    always = {CAP_BPF, CAP_PERFMON, CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE}
    version = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    old = version is None or (int(version[1]), int(version[2])) < (5, 11)
    return frozenset(always | {CAP_SYS_RESOURCE} if old else always)


def names(capabilities: Iterable[int]) -> tuple[str, ...]:
    """Return the names of needed capabilities."""
    return tuple(_NAMES[capability] for capability in sorted(capabilities))


def missing(status: Path = Path("/proc/thread-self/status")) -> list[str]:
    """Return needed capabilities that this thread lacks, as `NAME (reason)`."""
    have = effective(status)
    return [f"{_NAMES[cap]} ({_WHY[cap]})" for cap in sorted(needed()) if cap not in have]


def effective(status: Path = Path("/proc/thread-self/status")) -> frozenset[int]:
    """Return the effective capabilities."""
    for line in status.read_text("ascii", "replace").splitlines():
        if line.startswith("CapEff:"):
            bits = int(line.split()[1], 16)
            return frozenset(cap for cap in range(64) if bits >> cap & 1)
    return frozenset()


def drop(keep: frozenset[int]) -> None:
    """Keep the capabilities in `keep` and drop all others permanently. Raises AgentError on failure."""
    libc = ctypes.CDLL(None, use_errno=True)
    have = frozenset(keep & effective())
    _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _drop_bounding(libc, have)
    _set(libc, have)
    if effective() != have:
        raise AgentError("cannot drop capabilities", hint="start the agent with only those that it needs")


def _drop_bounding(libc: ctypes.CDLL, keep: frozenset[int]) -> None:
    """Drop from the bounding set. That fails without CAP_SETPCAP, where no_new_privs has the same effect."""
    for cap in range(64):
        if cap not in keep and libc.prctl(_PR_CAPBSET_READ, cap, 0, 0, 0) == 1:
            libc.prctl(_PR_CAPBSET_DROP, cap, 0, 0, 0)


def _set(libc: ctypes.CDLL, caps: frozenset[int]) -> None:
    """Set the effective and permitted sets and clear the inheritable one; low words come first."""
    bits = sum(1 << cap for cap in caps)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = struct.pack("=6I", low, low, 0, high, high, 0)
    if libc.capset(header, data) != 0:
        raise _failed("capset")


def _prctl(libc: ctypes.CDLL, option: int, argument: int) -> None:
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise _failed(f"prctl {option}")


def _failed(call: str) -> AgentError:
    return AgentError(f"cannot drop capabilities: {call}: {os.strerror(ctypes.get_errno())}")
