"""The maps of `bpf/maps.h` from user space: policy, discarders, counts. Layouts are the C structures'."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.events import EventType
from agent.kernel.libbpf import Map, possible_cpus

REJECT_ALL, APPROVE, FORWARD_ALL = range(3)

WRITING = 32  # bits from here on in an approver's mask count only for opens that write

BY_BASENAME, BY_PATH, BY_PREFIX, BY_FLAGS, BY_RDONLY, BY_UID, BY_AUID, BY_UPPER = (
    1 << bit for bit in range(8)
)

SLOTS = 256
_TYPES = 32

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
CONFIG = struct.Struct("=4I")  # serial, agent, scope, reserved
POLICY = struct.Struct("=4I")  # mode, kinds, flags_any, read_kinds
APPROVER = struct.Struct("=Q2I")  # value, kind, bank
DISCARDER = struct.Struct("=Q4I")  # inode, device, mount_id, level, reserved
DISCARD = struct.Struct("=2Q4I")  # mask, expires, serial, generation, epoch, reserved
COUNTS = struct.Struct("=9Q")


class KernelCounts(NamedTuple):
    """What the kernel stage did with the events of one type; `unentered` were never even seen."""

    seen: int = 0
    approver_rejected: int = 0
    discarded: int = 0
    submitted: int = 0
    ring_full: int = 0
    oversize: int = 0
    no_slot: int = 0
    abandoned: int = 0
    unentered: int = 0


class Policy(NamedTuple):
    """One event type's policy: which kinds of values there are, at all and for opens that do not write."""

    mode: int
    kinds: int = 0
    flags_any: int = 0
    read_kinds: int = 0


class Approver(NamedTuple):
    """A value that approves: a name's hash or an id, and the kind of it."""

    value: int
    kind: int


class Discarder(NamedTuple):
    """What a discarder is found by."""

    inode: int
    device: int
    mount_id: int
    level: int


class Discard(NamedTuple):
    """What it drops, and what must not have changed for it to be valid; `expires_ns` in CLOCK_BOOTTIME."""

    mask: int
    expires_ns: int
    serial: int
    generation: int
    epoch: int


class Tables:
    """The maps of one loaded object."""

    def __init__(self, maps: Mapping[str, Map], agent: int) -> None:
        self._maps = maps
        self._agent = agent
        self._scope = 0
        self._serial = 0
        self._banks: list[dict[Approver, int]] = [{}, {}]
        self._cpus = possible_cpus()
        for index in range(SLOTS):
            maps["free_slots"].update(b"", _U32.pack(index))
        self._configure()

    @property
    def serial(self) -> int:
        """The number of the policy in force; records carry the number of the one that judged them."""
        return self._serial

    def set_scope(self, tgid: int) -> None:
        """See only what this process and its descendants do; 0: everything."""
        self._scope = tgid
        self._configure()

    def set_policy(self, policies: Mapping[EventType, Policy], approvers: Mapping[Approver, int]) -> int:
        """Put a policy in force in one step and return its number: written aside, then switched to.

        Event types that are not in `policies` are rejected whole. Discarders of the policy before are stale.
        """
        serial = self._serial + 1
        bank = serial & 1
        self._write_approvers(bank, approvers)
        for kind in EventType:
            policy = policies.get(kind, Policy(REJECT_ALL))
            self._maps["policies"].update(_U32.pack(bank * _TYPES + kind), POLICY.pack(*policy))
        self._serial = serial
        self._configure()
        return serial

    def insert_discard(self, discarder: Discarder, discard: Discard) -> None:
        """Drop such events from now on, together with what was dropped there before."""
        self._maps["discarders"].update(DISCARDER.pack(*discarder, 0), DISCARD.pack(*discard, 0))

    def discards(self) -> Iterator[tuple[Discarder, Discard]]:
        """What is in the map now, valid or stale."""
        table = self._maps["discarders"]
        for key in table.keys():  # noqa: SIM118 - a map is no mapping: keys() walks the kernel's table
            if value := table.lookup(key):
                yield Discarder(*DISCARDER.unpack(key)[:4]), Discard(*DISCARD.unpack(value)[:5])

    def counts(self) -> dict[EventType, KernelCounts]:
        """What was counted since the load, summed over the processors."""
        return {kind: self._counts(kind) for kind in EventType}

    def generation(self) -> int:
        """The discarders' generation."""
        value = self._maps["generation"].lookup(_U32.pack(0))
        return int(_U32.unpack(value or bytes(4))[0])

    def _counts(self, kind: EventType) -> KernelCounts:
        data = self._maps["counts"].lookup(_U32.pack(kind), self._cpus * COUNTS.size) or b""
        return KernelCounts(*map(sum, zip(*COUNTS.iter_unpack(data), strict=True)))

    def _write_approvers(self, bank: int, approvers: Mapping[Approver, int]) -> None:
        table, old = self._maps["approvers"], self._banks[bank]
        for approver in old.keys() - approvers.keys():
            table.delete(APPROVER.pack(*approver, bank))
        for approver, mask in approvers.items():
            if old.get(approver) != mask:
                table.update(APPROVER.pack(*approver, bank), _U64.pack(mask))
        self._banks[bank] = dict(approvers)

    def _configure(self) -> None:
        self._maps["config"].update(_U32.pack(0), CONFIG.pack(self._serial, self._agent, self._scope, 0))
