"""Translates approvers into entries of the kernel's maps: names become hashes, kinds become bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from agent.events.model import EventType
from agent.kernel import maps, path_hash
from agent.kernel.maps import Approver, Policy

if TYPE_CHECKING:  # loading programs must not import the rules and their parser
    from agent.filters.approvers import Approvers

_MODES = {"FORWARD_ALL": maps.FORWARD_ALL, "APPROVE": maps.APPROVE, "REJECT_ALL": maps.REJECT_ALL}


def policies(approvers: Mapping[EventType, Approvers]) -> dict[EventType, Policy]:
    """Return the policy of each event type."""
    return {kind: _policy(of_kind) for kind, of_kind in approvers.items()}


def values(approvers: Mapping[EventType, Approvers]) -> dict[Approver, int]:
    """Return each approving value with the mask of the events that it approves."""
    masks: dict[Approver, int] = {}
    for kind, of_kind in approvers.items():
        for approver, writes in _values(of_kind):
            bit = kind.mask << maps.WRITING if writes else kind.mask
            masks[approver] = masks.get(approver, 0) | bit
    return masks


def _policy(approvers: Approvers) -> Policy:
    kinds = _kinds(approvers, approvers.basenames, approvers.paths, approvers.prefixes)
    read_kinds = _kinds(
        approvers,
        approvers.basenames - approvers.write_basenames,
        approvers.paths - approvers.write_paths,
        approvers.prefixes - approvers.write_prefixes,
    )
    return Policy(_MODES[approvers.mode.name], kinds, approvers.flags_any, read_kinds)


def _kinds(
    approvers: Approvers, basenames: frozenset[bytes], paths: frozenset[bytes], prefixes: frozenset[bytes]
) -> int:
    present = {
        maps.BY_BASENAME: basenames,
        maps.BY_PATH: paths,
        maps.BY_PREFIX: prefixes,
        maps.BY_FLAGS: approvers.flags_any,
        maps.BY_RDONLY: approvers.rdonly,
        maps.BY_UID: approvers.uids,
        maps.BY_AUID: approvers.auids,
        maps.BY_UPPER: approvers.upper_layer,
        maps.BY_INODE: approvers.inodes,
    }
    return sum(kind for kind, values in present.items() if values)


def _values(approvers: Approvers) -> Iterator[tuple[Approver, bool]]:
    for name in approvers.basenames:
        yield Approver(path_hash.component(name), maps.BY_BASENAME), name in approvers.write_basenames
    for path in approvers.paths:
        yield Approver(path_hash.path(path), maps.BY_PATH), path in approvers.write_paths
    for path in approvers.prefixes:
        yield Approver(path_hash.path(path), maps.BY_PREFIX), path in approvers.write_prefixes
    for uid in approvers.uids:
        yield Approver(uid, maps.BY_UID), False
    for inode in approvers.inodes:
        yield Approver(inode, maps.BY_INODE), False
    for auid in approvers.auids:
        yield Approver(auid, maps.BY_AUID), False
