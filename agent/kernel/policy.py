"""From approvers to what the kernel's maps hold: names become hashes, kinds become bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from agent.events.model import EventType
from agent.kernel import hashing, maps
from agent.kernel.maps import Approver, Policy

if TYPE_CHECKING:  # the rules, and their parser, need not be imported to load programs
    from agent.filters.approvers import Approvers

_MODES = {"FORWARD_ALL": maps.FORWARD_ALL, "APPROVE": maps.APPROVE, "REJECT_ALL": maps.REJECT_ALL}


def policies(approvers: Mapping[EventType, Approvers]) -> dict[EventType, Policy]:
    """The policy of each event type."""
    return {kind: _policy(one) for kind, one in approvers.items()}


def values(approvers: Mapping[EventType, Approvers]) -> dict[Approver, int]:
    """Each approving value and the mask of the events that it approves."""
    masks: dict[Approver, int] = {}
    for kind, one in approvers.items():
        for approver, writes in _values(one):
            bit = kind.mask << maps.WRITING if writes else kind.mask
            masks[approver] = masks.get(approver, 0) | bit
    return masks


def _policy(one: Approvers) -> Policy:
    kinds = _kinds(one, one.basenames, one.paths, one.prefixes)
    read_kinds = _kinds(
        one,
        one.basenames - one.write_basenames,
        one.paths - one.write_paths,
        one.prefixes - one.write_prefixes,
    )
    return Policy(_MODES[one.mode.name], kinds, one.flags_any, read_kinds)


def _kinds(
    one: Approvers, basenames: frozenset[bytes], paths: frozenset[bytes], prefixes: frozenset[bytes]
) -> int:
    present = {
        maps.BY_BASENAME: basenames,
        maps.BY_PATH: paths,
        maps.BY_PREFIX: prefixes,
        maps.BY_FLAGS: one.flags_any,
        maps.BY_RDONLY: one.rdonly,
        maps.BY_UID: one.uids,
        maps.BY_AUID: one.auids,
        maps.BY_UPPER: one.upper_layer,
    }
    return sum(kind for kind, values in present.items() if values)


def _values(one: Approvers) -> Iterator[tuple[Approver, bool]]:
    for name in one.basenames:
        yield Approver(hashing.component(name), maps.BY_BASENAME), name in one.write_basenames
    for path in one.paths:
        yield Approver(hashing.path(path), maps.BY_PATH), path in one.write_paths
    for path in one.prefixes:
        yield Approver(hashing.path(path), maps.BY_PREFIX), path in one.write_prefixes
    for uid in one.uids:
        yield Approver(uid, maps.BY_UID), False
    for auid in one.auids:
        yield Approver(auid, maps.BY_AUID), False
