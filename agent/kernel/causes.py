"""Finds settings of this host that keep kinds of BPF programs from working, each with its remedy.

A setting alone proves nothing, because a kind may work all the same. So a cause is named only beside a kind
that was observed not to work, and beside the error of a load that failed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.errors import KernelError
from agent.hooks import sets
from agent.kernel import btf, lockdown, tracefs

_LSM_LIST = Path("/sys/kernel/security/lsm")
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_STATUS = Path("/proc/thread-self/status")
_CAP_SYS_ADMIN = 21
_PARANOID_MAX = 2  # with CAP_PERFMON alone; Debian's 3 takes CAP_SYS_ADMIN

READ, CAST = "read", "cast"  # programs that call bpf_probe_read_kernel(), or bpf_rdonly_cast()
ALL = frozenset(kind for by_phase in sets.SETS.values() for kind in by_phase.values()) | {READ}
_JUMPING = frozenset({"kprobe", "kretprobe", "kprobe_multi", "kretprobe_multi"})  # by tail calls


class Cause(NamedTuple):
    """A setting, the kinds of programs that it concerns, and what to type."""

    kinds: frozenset[str]
    text: str
    remedy: str


def kinds_of(hookset: str) -> frozenset[str]:
    """Return the kinds of programs that a hook set, or `auto`, may use."""
    return ALL if hookset == sets.AUTO else frozenset(sets.SETS[hookset].values()) | {READ}


def found(kinds: Collection[str] = ALL) -> list[Cause]:
    """Return the causes on this host for these kinds, the most probable first."""
    present = (cause for look in _CAUSES for cause in look())
    return [cause for cause in present if not cause.kinds.isdisjoint(kinds)]


def of_loads(kinds: Collection[str]) -> list[Cause]:
    """Return the causes for which this kernel refuses to load any program of one of these kinds."""
    present = (cause for look in (_locked_down, _without_btf, _interpreted) for cause in look())
    return [cause for cause in present if not cause.kinds.isdisjoint(kinds)]


def name(error: KernelError, kinds: Collection[str] = ALL) -> None:
    """Add the causes for these kinds to an error's hint and detail."""
    causes = found(kinds)
    if causes:
        texts = [f"possible cause: {cause.text}" for cause in causes]
        error.detail = "\n".join((*texts, error.detail)).strip()
        error.hint = "; ".join(dict.fromkeys((*(cause.remedy for cause in causes), error.hint)))


def _locked_down() -> Iterator[Cause]:
    if lockdown.active():
        yield Cause(frozenset({*sets.PERF, READ}), lockdown.TEXT, lockdown.REMEDY)


def _without_lsm() -> Iterator[Cause]:
    active = _word(_LSM_LIST)
    if active is None:
        text = f"{_LSM_LIST} cannot be read, so the active security modules are unknown"
        yield Cause(frozenset({"lsm"}), text, "mount -t securityfs securityfs /sys/kernel/security")
    elif "bpf" not in active.split(","):
        text = f"bpf is not among the active security modules ({_LSM_LIST}: {active})"
        yield Cause(frozenset({"lsm"}), text, f"boot with lsm={active},bpf")


def _without_btf() -> Iterator[Cause]:
    if not Path(btf.KERNEL).is_file():
        text = f"the kernel has no type information ({btf.KERNEL})"
        yield Cause(
            frozenset(sets.TRAMPOLINES), text, "use a kernel with CONFIG_DEBUG_INFO_BTF, or --hookset bcc"
        )


def _interpreted() -> Iterator[Cause]:
    if _word(_JIT) == "0":
        text = f"the kernel does not compile BPF programs to machine code ({_JIT}: 0)"
        yield Cause(_JUMPING | {CAST}, text, "sysctl net.core.bpf_jit_enable=1")


def _without_tracefs() -> Iterator[Cause]:
    if tracefs.writable() is None:
        text = "tracefs is not mounted, or this process cannot write to it"
        yield Cause(frozenset(sets.PERF), text, "mount -t tracefs tracefs /sys/kernel/tracing")


def perf_takes_admin() -> bool:
    """Whether attaching through perf takes CAP_SYS_ADMIN here, and not only CAP_PERFMON."""
    level = _word(_PARANOID) or ""
    return level.lstrip("-").isdigit() and int(level) > _PARANOID_MAX


def _paranoid() -> Iterator[Cause]:
    if perf_takes_admin() and not _is_admin():
        text = f"attaching through perf takes CAP_SYS_ADMIN here ({_PARANOID}: {_word(_PARANOID)})"
        remedy = f"sysctl kernel.perf_event_paranoid={_PARANOID_MAX}, or start with CAP_SYS_ADMIN"
        yield Cause(frozenset(sets.PERF), text, remedy)


_CAUSES: tuple[Callable[[], Iterator[Cause]], ...] = (
    *(_locked_down, _without_btf, _interpreted, _without_tracefs, _paranoid, _without_lsm),
)


def _word(path: Path) -> str | None:
    """Return what a file of the kernel says, None if it cannot be read."""
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return None


def _is_admin() -> bool:
    for line in (_word(_STATUS) or "").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return os.geteuid() == 0
