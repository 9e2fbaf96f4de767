"""The messages that a kernel prints when it is in trouble, as data; the newest wording is first.

A line counts only if it begins with printk's time stamp, so a program that prints "Kernel panic" is no panic.
This one list decides what ends a machine, what is a complaint, and what a report marks.

Wordings: kernel/panic.c, arch/x86/kernel/dumpstack.c, arch/x86/mm/fault.c, arch/arm64/kernel/traps.c,
kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, mm/oom_kill.c, mm/kasan/report.c,
lib/ubsan.c, kernel/locking/lockdep.c, init/do_mounts.c.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class Trouble(enum.Enum):
    """A kind of trouble."""

    PANIC = "panic"
    OOPS = "oops"
    SOFT_LOCKUP = "soft lockup"
    HARD_LOCKUP = "hard lockup"
    HUNG_TASK = "hung task"
    RCU_STALL = "RCU stall"
    OUT_OF_MEMORY = "out of memory"
    NO_ROOT = "no root"
    KASAN = "KASAN"
    UBSAN = "UBSAN"
    LOCKDEP = "lockdep"
    WARNING = "warning"


@dataclass(frozen=True)
class Signature:
    """`pattern` is searched in a line after its time stamp; after a `fatal` message the kernel stops."""

    trouble: Trouble
    pattern: re.Pattern[bytes]
    fatal: bool = False


def _signature(trouble: Trouble, pattern: bytes, *, fatal: bool = False) -> Signature:
    return Signature(trouble, re.compile(pattern), fatal)


# The first match names the trouble. Only a panic is fatal: the guest's command line turns oops, lockup and
# stall into panics, and their own messages come before the panic and name the cause.
SIGNATURES = (
    _signature(Trouble.NO_ROOT, rb"^Kernel panic - not syncing: VFS: Unable to mount root fs", fatal=True),
    _signature(Trouble.NO_ROOT, rb"^VFS: (?:Cannot open root device|Unable to mount root fs)"),
    _signature(Trouble.PANIC, rb"^Kernel panic - not syncing", fatal=True),
    _signature(Trouble.SOFT_LOCKUP, rb"soft lockup - CPU#\d+ stuck for"),
    _signature(Trouble.HARD_LOCKUP, rb"Watchdog detected hard LOCKUP|hard lockup on cpu"),
    _signature(Trouble.HUNG_TASK, rb"^INFO: task .+ blocked for more than \d+ seconds"),
    _signature(Trouble.RCU_STALL, rb"rcu.*(?:self-detected stall|detected (?:expedited )?stalls)"),
    _signature(Trouble.OUT_OF_MEMORY, rb"Out of memory: Killed process|invoked oom-killer"),
    _signature(Trouble.KASAN, rb"^BUG: K(?:ASAN|CSAN|FENCE|MSAN):"),
    _signature(Trouble.UBSAN, rb"^UBSAN: "),
    _signature(
        Trouble.LOCKDEP, rb"^(?:WARNING: (?:possible|inconsistent|suspicious)|INFO: possible recursive)"
    ),
    _signature(Trouble.OOPS, rb"^(?:Oops:|BUG: |kernel BUG at|general protection fault|Internal error: )"),
    _signature(Trouble.OOPS, rb"^(?:Unable to handle kernel|divide error:|invalid opcode:|stack segment:)"),
    _signature(Trouble.WARNING, rb"^WARNING: "),
)

# printk's time stamp, with optional level and caller: "[    1.234567]", "<4>[    1.234567][  T123] ".
_STAMP = re.compile(rb"^(?:<\d+>)?\[ *(?P<seconds>\d+\.\d{6})\](?:\[ *[TC]\d+\])? ?")
_PANIC_END = re.compile(rb"---\[ end Kernel panic")


def stamped(line: bytes) -> bytes | None:
    """The kernel's message in a console line, without its time stamp; None if the kernel did not print it."""
    match = _STAMP.match(line)
    return line[match.end() :] if match else None


def plain(line: bytes) -> bytes:
    """The line without level and caller, so that it is the same on the console and in the kernel's log."""
    match = _STAMP.match(line)
    return b"[%s] %s" % (match["seconds"], line[match.end() :]) if match else line


def recognise(line: bytes) -> Signature | None:
    """The first signature that matches a console line, if any."""
    message = stamped(line)
    if message is None:
        return None
    return next((signature for signature in SIGNATURES if signature.pattern.search(message)), None)


def ends_panic(line: bytes) -> bool:
    """Whether this is the last line that a panic prints."""
    message = stamped(line)
    return message is not None and _PANIC_END.search(message) is not None
