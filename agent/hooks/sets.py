"""Lists the hook sets: which type of program serves each phase of an operation, and where it is attached.

The set `auto` tries the sets of a ladder, one after the other, for each event type.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.hooks.points import (
    AFTER_LOST_RETURN,
    GIVEN,
    ONCE,
    POINTS,
    RESOLVES,
    SYSCALL,
    SYSCALLS,
    TRACEPOINTS,
)

# The program type for each phase, by set. `task` serves exec, fork and exit of processes; `syscall` serves
# what is seen at system calls alone.
_PHASES = ("enter", "given", "once", "resolve", "exit", "task")
RETURNS_BY_KPROBE = "kretprobe"
SETS: dict[str, dict[str, str]] = {
    "lsm": dict(zip(_PHASES, ("fentry", "fentry", "fentry", "lsm", "fexit", "raw_tp"), strict=True)),
    "fentry": dict(zip(_PHASES, ("fentry", "fentry", "fentry", "fentry", "fexit", "raw_tp"), strict=True)),
    "kprobe": dict(
        zip(_PHASES, ("kprobe", "kprobe", "kprobe", "kprobe", RETURNS_BY_KPROBE, "kprobe"), strict=True)
    ),
}
SETS["kprobe-multi"] = {phase: f"{kind}_multi" for phase, kind in SETS["kprobe"].items()}
BCC = "bcc"  # the programs of `kprobe`, compiled on the host: for kernels without type information
SETS[BCC] = SETS["kprobe"]
SETS["tracepoint"] = {SYSCALL: "tracepoint", "task": "raw_tp"}
RAW_TRACEPOINT = "raw_tp"
TRACEPOINT = "tracepoint"

# Types of programs that the kernel calls through a trampoline, which needs the kernel's own BTF.
TRAMPOLINES = ("lsm", "fentry", "fexit")

# Types of programs that are attached through perf. Where perf_event_paranoid is above 2, as on Debian, that
# takes CAP_SYS_ADMIN, which `agent run` has only while it starts.
PERF = ("kprobe", "kretprobe", "tracepoint")

# Types of programs that work if another type works.
CAPABILITIES = {"kretprobe_multi": "kprobe_multi"}

# The sets that `auto` tries, in this order. On a kernel with preemption (capability `skips`), a preempted
# program on a trampoline makes the kernel skip programs that run meanwhile on the same CPU, up to half of
# all events. On 7.3 raw tracepoints do the same. Kprobes and kprobe.multi run with preemption off, and only
# kprobe.multi has room for the returns of all calls that sleep (agent/kernel/tracefs.py has the bounds).
LADDER = ("lsm", "fentry", "kprobe", "tracepoint")
LADDER_SKIPPING = ("kprobe-multi", "kprobe", "lsm", "fentry", "tracepoint")
AUTO = "auto"
HOOKSETS = (AUTO, *SETS)

# The values of `Event.program`, in the order of enum fim_family.
FAMILIES = ("", "lsm", "fentry", "kprobe", "kprobe-multi", "tracepoint", "bcc")

_FAMILIES_OF_KIND = {
    "lsm": ("lsm",),
    "fentry": ("fentry",),
    "fexit": ("fentry",),
    "kprobe": ("kprobe", BCC),  # depends on the compiler
    "kretprobe": ("kprobe", BCC),
    "kprobe_multi": ("kprobe-multi",),
    "kretprobe_multi": ("kprobe-multi",),
    RAW_TRACEPOINT: ("tracepoint",),
    TRACEPOINT: ("tracepoint",),
}


def families(kinds: Iterable[str]) -> set[str]:
    """Return the possible values of `Event.program` for programs of these types; "" for an unknown type."""
    return {family for kind in kinds for family in _FAMILIES_OF_KIND.get(kind, ("",))}


def kind_of(hook: str, hookset: str) -> str:
    """Return the program type that serves a hook in a set; empty if the set does not serve it."""
    point, phase = hook.split(".")
    if hook == AFTER_LOST_RETURN and SETS[hookset].get("exit") != RETURNS_BY_KPROBE:
        return ""
    return SETS[hookset].get(SYSCALL if point == SYSCALL else "task" if point in TRACEPOINTS else phase, "")


def candidates(hook: str, kind: str) -> tuple[str, ...]:
    """Return the possible targets of a program of this type for a hook, the newest name first."""
    point, phase = hook.split(".")
    if point == SYSCALL:
        return (SYSCALLS[phase],)
    if kind == RAW_TRACEPOINT:
        return (TRACEPOINTS[point],)
    if phase == "resolve":
        return RESOLVES[point].lsm if kind == "lsm" else RESOLVES[point].functions
    table = {"given": GIVEN, "once": ONCE}.get(phase, POINTS)
    return table[point]


def program(hook: str, kind: str) -> str:
    """Return the program's name in the object."""
    point, phase = hook.split(".")
    return f"{kind}__{point}__{phase}"
