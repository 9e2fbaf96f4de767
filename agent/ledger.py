"""The arithmetic of what becomes of events: every one that happened is accounted for, or a number is off.

    happened  = seen + program_misses
    seen      = approver_rejected + discarded + submitted + ring_full + oversize
    submitted = delivered + read_errors
    delivered = matched + unmatched

`happened` is known only to whoever made the events; the rest is counted on both sides of the ring buffer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.events.model import EventType
from agent.hooks.points import BLINDING
from agent.kernel.maps import KernelCounts


class Account(NamedTuple):
    """Counts of one event type: the kernel's up to `program_misses`, then ours."""

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
        """Events that happened and that nobody will see."""
        return self.ring_full + self.oversize + self.program_misses + self.read_errors


class Identity(NamedTuple):
    """Two numbers that must be equal, and the equation in words."""

    equation: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether they are."""
        return self.left == self.right

    def __str__(self) -> str:
        return f"{self.equation}: {self.left} {'=' if self.holds else '!='} {self.right}"


def identities(account: Account) -> tuple[Identity, ...]:
    """What can be checked without knowing what happened; the first that does not hold names the leak."""
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
        self.undecodable = 0  # records that are no events: of no type, so in no account

    def judge(self, kind: EventType, matched: bool) -> None:
        """One event was decoded and judged."""
        counts = self._matched if matched else self._unmatched
        counts[kind] += 1

    def accounts(
        self, kernel: Mapping[EventType, KernelCounts], misses: Mapping[EventType, int]
    ) -> dict[EventType, Account]:
        """Every event type's account. What is still in the ring is submitted and not yet delivered."""
        return {kind: self._account(kind, counts, misses.get(kind, 0)) for kind, counts in kernel.items()}

    def _account(self, kind: EventType, counts: KernelCounts, misses: int) -> Account:
        matched, unmatched = self._matched[kind], self._unmatched[kind]
        gone = counts.no_slot + counts.abandoned  # seen, but with no record: missed like the unentered
        return Account(
            seen=counts.seen - gone,
            approver_rejected=counts.approver_rejected,
            discarded=counts.discarded,
            submitted=counts.submitted,
            ring_full=counts.ring_full,
            oversize=counts.oversize,
            program_misses=gone + counts.unentered + misses,
            delivered=matched + unmatched,
            matched=matched,
            unmatched=unmatched,
        )


def misses(skipped: Mapping[str, int]) -> dict[EventType, int]:
    """Events that went unseen because the kernel skipped a program, by event type; `skipped` is by hook."""
    found: dict[EventType, int] = {}
    for hook, count in skipped.items():
        point, phase = hook.split(".")
        kind = _TYPES.get(point)
        if phase in BLINDING and kind is not None:
            found[kind] = found.get(kind, 0) + count
    return found


_TYPES = {kind.label: kind for kind in EventType} | {
    "open_root": EventType.OPEN,
    "ftruncate": EventType.TRUNCATE,
    "move_mount": EventType.MOUNT,
}
