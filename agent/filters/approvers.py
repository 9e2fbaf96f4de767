"""Derives from the rules the approvers: the values that let an event pass the kernel's first filter.

An event passes if any value matches either of its files. The filter may forward too much but never too
little, so an event with an uncertain path (truncated, as the caller gave it, detached) passes if any approver
is a path.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from agent.events.model import EventType
from agent.filters import wants
from agent.filters.wants import Refusal, Want
from agent.rules.engine import CompiledRule, Ruleset


class Mode(enum.IntEnum):
    """How the kernel filters the events of a type."""

    FORWARD_ALL = 0
    APPROVE = 1
    REJECT_ALL = 2


class Reason(NamedTuple):
    """The approvers of one rule on one event type, or in `refusal` why it has none."""

    rule: str
    wants: tuple[Want, ...]
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Approvers:
    """The kernel's first filter for one event type.

    `prefixes`: b"/etc" approves every path strictly below /etc. `flags_any`: approve an open with one of
    these flags. `rdonly`: approve an open whose access mode is read-only. The `write_*` sets are subsets of
    the sets of that name; they need to approve only opens with a flag of `agent.rules.constants.WRITE_FLAGS`.
    A kernel stage that ignores them is correct and forwards more.
    """

    mode: Mode
    basenames: frozenset[bytes] = frozenset()
    paths: frozenset[bytes] = frozenset()
    prefixes: frozenset[bytes] = frozenset()
    flags_any: int = 0
    rdonly: bool = False
    uids: frozenset[int] = frozenset()
    auids: frozenset[int] = frozenset()
    upper_layer: bool = False
    inodes: frozenset[int] = frozenset()
    write_basenames: frozenset[bytes] = frozenset()
    write_paths: frozenset[bytes] = frozenset()
    write_prefixes: frozenset[bytes] = frozenset()
    reasons: tuple[Reason, ...] = ()

    @property
    def looks_at_paths(self) -> bool:
        """Whether a path can approve an event; an uncertain path then does."""
        return bool(self.basenames or self.paths or self.prefixes)

    @property
    def looks_at_paths_of_reads(self) -> bool:
        """Whether a path can approve an open that does not write; an uncertain path then does."""
        written = (self.write_basenames, self.write_paths, self.write_prefixes)
        return (self.basenames, self.paths, self.prefixes) != written

    @property
    def refusals(self) -> tuple[Reason, ...]:
        """The rules without approvers, because of which the kernel forwards all events of this type."""
        return tuple(reason for reason in self.reasons if reason.refusal)


def derive(ruleset: Ruleset) -> dict[EventType, Approvers]:
    """Derive the approvers of every event type."""
    return dict(_derived(ruleset))


@functools.lru_cache(maxsize=1)  # the loader and the pipeline ask for the same rules
def _derived(ruleset: Ruleset) -> Mapping[EventType, Approvers]:
    return {kind: _derive(rules) for kind, rules in ruleset.by_type.items()}


def _derive(rules: Iterable[CompiledRule]) -> Approvers:
    reasons = tuple(_reason(rule) for rule in rules)
    if not reasons:
        return Approvers(Mode.REJECT_ALL)
    if any(reason.refusal for reason in reasons):
        return Approvers(Mode.FORWARD_ALL, reasons=reasons)
    return collect(frozenset(want for reason in reasons for want in reason.wants), reasons)


def _reason(rule: CompiledRule) -> Reason:
    wanted = wants.wants(rule.condition)
    if isinstance(wanted, Refusal):
        return Reason(rule.id, (), wanted.reason)
    return Reason(rule.id, tuple(sorted(wanted, key=lambda want: (want.kind, str(want.value)))))


def collect(wanted: frozenset[Want], reasons: tuple[Reason, ...] = ()) -> Approvers:
    """Combine values to one filter; without values no rule can match."""
    return Approvers(
        Mode.APPROVE if wanted else Mode.REJECT_ALL,
        basenames=_texts(wanted, wants.BASENAME),
        paths=_texts(wanted, wants.PATH),
        prefixes=_texts(wanted, wants.PREFIX),
        flags_any=sum(_bits(_numbers(wanted, wants.ANY_FLAG))),
        rdonly=bool(_numbers(wanted, wants.RDONLY)),
        uids=_numbers(wanted, wants.USER),
        auids=_numbers(wanted, wants.LOGIN),
        inodes=_numbers(wanted, wants.INODE),
        upper_layer=bool(_numbers(wanted, wants.UPPER)),
        write_basenames=_only_writes(wanted, wants.BASENAME),
        write_paths=_only_writes(wanted, wants.PATH),
        write_prefixes=_only_writes(wanted, wants.PREFIX),
        reasons=reasons,
    )


def _texts(wanted: frozenset[Want], kind: str) -> frozenset[bytes]:
    return frozenset(want.value for want in wanted if want.kind == kind and isinstance(want.value, bytes))


def _numbers(wanted: frozenset[Want], kind: str) -> frozenset[int]:
    return frozenset(want.value for want in wanted if want.kind == kind and isinstance(want.value, int))


def _only_writes(wanted: frozenset[Want], kind: str) -> frozenset[bytes]:
    always = frozenset(want for want in wanted if not want.writes)
    return _texts(wanted, kind) - _texts(always, kind)


def _bits(masks: Iterable[int]) -> set[int]:
    """Return the union of the bits of several masks."""
    return {1 << bit for mask in masks for bit in range(mask.bit_length()) if mask >> bit & 1}
