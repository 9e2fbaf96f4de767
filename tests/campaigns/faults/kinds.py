"""The faults of random runs as data: what is done, in which phases, and which verdicts are right."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.results.verdict import Verdict
from tests.campaigns.faults.catalogue import (
    FOR_EVER,
    HOGGED,
    KILL,
    PANIC,
    POWER_OFF,
    SPIN,
    UNDEFINED,
    WARNING,
)
from tests.campaigns.faults.lies import LIES
from tests.campaigns.faults.scene import AGENT, InGuest, Scene
from tests.campaigns.faults.strikes import INSERT, cut_ssh, frozen, inserted, paused, qemu, reset

Phase = Literal["boot", "deploy", "load", "test", "between", "close", "look", "after"]
PHASES: tuple[Phase, ...] = ("boot", "deploy", "load", "test", "between", "close", "look", "after")
HERE: tuple[Phase, ...] = PHASES[:6]  # phases in which a strike can be aimed at something that still matters
AGENT_RUNS: tuple[Phase, ...] = ("load", "test", "between", "close")

Strike = InGuest | Callable[[Scene], None]


@dataclass(frozen=True)
class Kind:
    """One fault. `group` is the row of the confusion matrix. `also` are further verdicts that are right.

    `hangs`: the harness learns of it only when a deadline passes, so deadlines are shortened. `lie` is a
    change of the agent in the guest, made when it is deployed. `how` names what the player itself carries
    out.
    """

    name: str
    group: str
    phases: tuple[Phase, ...]
    strike: Strike | None = None
    also: tuple[Verdict, ...] = ()
    hangs: bool = False
    lie: str = ""
    how: str = ""


def _signal(number: signal.Signals) -> Strike:
    return lambda _scene: os.kill(os.getpid(), number)


def _says(line: str) -> InGuest:
    return InGuest(f"echo '<4>{line}' >/dev/kmsg", wait=True)


# A socket filter of two instructions, which returns 0, pinned below /sys/fs/bpf.
_PROGRAM = """exec python3 -c '
import ctypes, struct
def at(data):
    kept.append(ctypes.create_string_buffer(data))
    return ctypes.addressof(kept[-1])
kept, call = [], ctypes.CDLL(None).syscall
code = at(bytes.fromhex("b7000000000000009500000000000000"))
load = struct.pack("IIQQ", 1, 2, code, at(b"GPL")) + bytes(48)
program = call(321, 5, load, len(load))
pin = struct.pack("QII", at(b"/sys/fs/bpf/program"), program, 0)
assert program > 0 and call(321, 6, pin, len(pin)) == 0
'"""

# Chunk by chunk: the kernel refuses at once what is more than all its memory.
_MEMORY = "exec python3 -c 'taken = [b\"x\" * (32 << 20) for _ in range(64)]'"
_AGENT_STOPS = InGuest(f"pkill -STOP -nf {AGENT}", wait=True)

KINDS: tuple[Kind, ...] = (
    Kind("panic", "guest ends", HERE, PANIC),
    Kind("power off", "guest ends", HERE, POWER_OFF),
    Kind("reboot", "guest ends", HERE, InGuest("echo b >/proc/sysrq-trigger")),
    Kind("kernel oops", "guest ends", HERE[1:], inserted(UNDEFINED, INSERT)),
    Kind("kernel spins", "guest ends", HERE[1:], inserted(FOR_EVER, SPIN)),
    Kind("reset by the hypervisor", "guest ends", HERE, reset),
    Kind("panic on out of memory", "guest ends", HERE,
         InGuest(f"echo 2 >/proc/sys/vm/panic_on_oom; {_MEMORY}"),
         # The memory is full only later: the agent may run by then, or the cell ends first and the program
         # is left behind.
         also=(Verdict.FAIL, Verdict.CRASH)),
    Kind("CPU stands still", "guest hangs", HERE, frozen, hangs=True),
    Kind("CPU taken for ever", "guest hangs", AGENT_RUNS, InGuest(HOGGED), hangs=True,
         also=(Verdict.CRASH,)),  # the kernel panics where it detects the stall before the deadline passes
    Kind("kernel warns", "kernel complains", AGENT_RUNS, _says(WARNING)),
    Kind("kernel says BUG", "kernel complains", AGENT_RUNS, _says(
        "BUG: sleeping function called from invalid context at mm/slab.h:1")),
    Kind("out of memory", "kernel complains", AGENT_RUNS, InGuest(_MEMORY),
         also=(Verdict.FAIL, Verdict.FLAKY, Verdict.CRASH, Verdict.TIMEOUT)),  # the agent may be its victim
    Kind("agent killed", "agent ends", AGENT_RUNS, InGuest(KILL, wait=True)),
    Kind("agent gets SIGSEGV", "agent ends", AGENT_RUNS, InGuest(KILL.replace("KILL", "SEGV"), wait=True)),
    Kind("agent gets SIGTERM", "agent ends", AGENT_RUNS, InGuest(KILL.replace("KILL", "TERM"), wait=True)),
    Kind("agent stopped", "agent hangs", AGENT_RUNS, _AGENT_STOPS, hangs=True),
    *(Kind(f"agent {name}", "agent lies", ("deploy",), lie=name) for name in LIES),
    Kind("process left", "left behind", HERE[1:], InGuest("exec setsid sleep 9999")),
    Kind("mount left", "left behind", HERE[1:], InGuest("mkdir /left; mount -t tmpfs left /left", wait=True)),
    Kind("pin left", "left behind", HERE[1:], InGuest("mkdir /sys/fs/bpf/left", wait=True)),
    Kind("BPF program left", "left behind", HERE[1:], InGuest(_PROGRAM, wait=True)),
    Kind("QEMU killed", "host fails", HERE, qemu(signal.SIGKILL)),
    Kind("QEMU stopped", "host fails", HERE, qemu(signal.SIGSTOP)),
    Kind("SSH cut", "host fails", HERE[1:], cut_ssh),
    Kind("sshd killed", "host fails", HERE[1:], InGuest("pkill -KILL sshd")),
    Kind("libvirt refuses", "host fails", ("boot",), how="libvirt refuses"),
    Kind("libvirt cannot be opened", "host fails", ("boot",), how="libvirt cannot be opened"),
    Kind("libvirt loses the machine", "host fails", ("boot",), how="libvirt loses the machine"),
    Kind("disk full", "host fails", HERE, how="disk full", also=(Verdict.NOT_RUN,)),
    Kind("worker killed", "host fails", ("boot", "test", "close"), how="worker killed",
         also=(Verdict.NOT_RUN,)),
    Kind("SIGINT", "interrupted", HERE, _signal(signal.SIGINT)),
    Kind("SIGTERM", "interrupted", HERE, _signal(signal.SIGTERM)),
    Kind("SIGHUP", "interrupted", HERE, _signal(signal.SIGHUP)),
    Kind("SIGKILL", "interrupted", HERE, _signal(signal.SIGKILL)),
    Kind("two SIGINT", "interrupted", HERE, how="two SIGINT"),
    Kind("cancelled by GitHub", "interrupted", HERE, how="cancelled"),
    Kind("clock a year ahead", "overcome", HERE[1:], InGuest("date -s '+1 year'", wait=True)),
    Kind("clock a day back", "overcome", HERE[1:], InGuest("date -s '-1 day'", wait=True)),
    Kind("program prints a panic", "overcome", HERE[1:], InGuest(
        "echo 'Kernel panic - not syncing: Fatal exception' >/dev/ttyS0", wait=True)),
    Kind("console flooded", "overcome", HERE[1:], InGuest(
        "head -c 60000 /dev/zero | tr '\\0' x >/dev/ttyS0", wait=True)),
    Kind("guest paused for a moment", "overcome", HERE, paused(1.5)),
    Kind("program that comes and goes", "overcome", HERE[1:], InGuest("sleep 0.3", wait=True)),
)  # fmt: skip
BY_NAME = {kind.name: kind for kind in KINDS}

_BEFORE_THE_AGENT = {"guest ends": Verdict.BOOT_FAIL, "guest hangs": Verdict.BOOT_FAIL}
_RIGHT: dict[str, tuple[Verdict, ...]] = {
    "guest ends": (Verdict.CRASH,),
    "guest hangs": (Verdict.TIMEOUT,),
    "kernel complains": (Verdict.SPLAT,),
    "agent ends": (Verdict.FAIL, Verdict.FLAKY),
    "agent hangs": (Verdict.TIMEOUT,),
    "agent lies": (Verdict.FAIL, Verdict.FLAKY),
    "left behind": (Verdict.FAIL,),
    "host fails": (Verdict.INFRA,),
    "interrupted": (Verdict.NOT_RUN,),
    "overcome": (Verdict.PASS,),
    "none": (Verdict.PASS,),
}
GROUPS = tuple(_RIGHT)


def right(kind: Kind, phase: str, *, cold: bool) -> set[Verdict]:
    """Return the right verdicts for a fault in `phase`; `cold`: the machine was booted."""
    if phase == "deploy" and kind.group == "guest hangs" and not cold:
        return {Verdict.INFRA}  # the machine was restored, so that its kernel is known to boot
    if phase in ("boot", "deploy") and kind.group in _BEFORE_THE_AGENT:
        return {_BEFORE_THE_AGENT[kind.group], *kind.also}  # the fault may take effect only later
    return {*_RIGHT[kind.group], *kind.also}
