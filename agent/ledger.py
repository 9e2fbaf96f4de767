"""Accounts for every event, so that a lost event always shows in a counter.

    happened  = seen + program_misses
    seen      = approver_rejected + discarded + submitted + ring_full + oversize
    submitted = delivered + read_errors
    delivered = matched + unmatched

`happened` is known only to the program that caused the events. The other numbers are counted in the kernel
and in user space. `program_misses` joins the kernel's reasons for which an event has no record: the kernel
skipped a program, or `no_slot`, `abandoned` and `unentered` of `KernelCounts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.events.model import EventType
from agent.hooks.needs import BLINDING
from agent.kernel.maps import KernelCounts


class Account(NamedTuple):
    """Counts of one event type: the kernel's up to `program_misses`, then those of user space."""

    seen: int = 0
    approver_rejected: int = 0
    discarded: int = 0
    submitted: int = 0
    ring_full: int = 0
    oversize: int = 0
    program_misses: int = 0
    delivered: int = 0
    matched: int = 0
    unmatched: int = 0
    read_errors: int = 0

    @property
    def lost(self) -> int:
        """Events that happened but were not delivered."""
        return self.ring_full + self.oversize + self.program_misses + self.read_errors


class Identity(NamedTuple):
    """Two numbers that must be equal, and the equation in words."""

    equation: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether the numbers are equal."""
        return self.left == self.right

    def __str__(self) -> str:
        return f"{self.equation}: {self.left} {'=' if self.holds else '!='} {self.right}"


def identities(account: Account) -> tuple[Identity, ...]:
    """Return the equations that can be checked without `happened`; the first that fails shows the leak."""
    a = account
    filtered = a.approver_rejected + a.discarded + a.submitted + a.ring_full + a.oversize
    return (
        Identity("seen = rejected + discarded + submitted + ring full + oversize", a.seen, filtered),
        Identity("submitted = delivered + read errors", a.submitted, a.delivered + a.read_errors),
        Identity("delivered = matched + unmatched", a.delivered, a.matched + a.unmatched),
    )


class Ledger:
    """Counts what user space does with events; `accounts` joins it with the kernel's counts."""

    def __init__(self) -> None:
        self._matched = [0] * len(EventType)
        self._unmatched = [0] * len(EventType)
        self.undecodable = 0  # invalid records: without a type, so in no account

    def judge(self, kind: EventType, matched: bool) -> None:
        """Count one event that was decoded and evaluated."""
        counts = self._matched if matched else self._unmatched
        counts[kind] += 1

    def accounts(
        self, kernel: Mapping[EventType, KernelCounts], misses: Mapping[EventType, int]
    ) -> dict[EventType, Account]:
        """Return the account of every event type. Records in the ring buffer are submitted, not delivered."""
        return {kind: self._account(kind, counts, misses.get(kind, 0)) for kind, counts in kernel.items()}

    def _account(self, kind: EventType, counts: KernelCounts, misses: int) -> Account:
        matched, unmatched = self._matched[kind], self._unmatched[kind]
        missed = counts.no_slot + counts.abandoned  # seen, but without a record: count as misses
        return Account(
            seen=counts.seen - missed,
            approver_rejected=counts.approver_rejected,
            discarded=counts.discarded,
            submitted=counts.submitted,
            ring_full=counts.ring_full,
            oversize=counts.oversize,
            program_misses=missed + counts.unentered + misses,
            delivered=matched + unmatched,
            matched=matched,
            unmatched=unmatched,
        )


def misses(skipped: Mapping[str, int]) -> dict[EventType, int]:
    """Return by event type the events missed because the kernel skipped a program; `skipped` is by hook."""
    missed: dict[EventType, int] = {}
    for hook, count in skipped.items():
        point, phase = hook.split(".")
        kind = _TYPES.get(point)
        if phase in BLINDING and kind is not None:
            missed[kind] = missed.get(kind, 0) + count
    return missed


_TYPES = {kind.label: kind for kind in EventType} | {
    "open_root": EventType.OPEN,
    "exec_open": EventType.EXEC,
    "ftruncate": EventType.TRUNCATE,
    "move_mount": EventType.MOUNT,
    "move_mount32": EventType.MOUNT,
    "mount_setattr": EventType.MOUNT,
    "mount_setattr32": EventType.MOUNT,
    "open_tree_attr": EventType.MOUNT,
    "open_tree_attr32": EventType.MOUNT,
    "pivot_root": EventType.MOUNT,
    "pivot_root32": EventType.MOUNT,
    "reconfigure": EventType.MOUNT,
}
