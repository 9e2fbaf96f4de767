"""The maps of `bpf/maps.h` from user space: policy, discarders, counts. Layouts are the C structures'.

Arrays are memory that the kernel shares with us. Hash tables are written by `tables`, which does so without
keeping a kprobe from being seen (`agent.kernel.tell`), where the kernel can.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from agent.events.model import EventType
from agent.kernel.libbpf import Map

REJECT_ALL, APPROVE, FORWARD_ALL = range(3)

WRITING = 32  # bits from here on in an approver's mask count only for opens that write

BY_BASENAME, BY_PATH, BY_PREFIX, BY_FLAGS, BY_RDONLY, BY_UID, BY_AUID, BY_UPPER = (
    1 << bit for bit in range(8)
)

SLOTS = 256
LANES = 64
_TYPES = 32
_POSSIBLE = Path("/sys/devices/system/cpu/possible")

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
CONFIG = struct.Struct("=4I")  # serial, agent, scope, reserved
_SERIAL, _AGENT, _SCOPE = range(3)
POLICY = struct.Struct("=4I")  # mode, kinds, flags_any, read_kinds
APPROVER = struct.Struct("=Q2I")  # value, kind, bank
DISCARDER = struct.Struct("=Q4I")  # inode, device, mount_id, level, reserved
DISCARD = struct.Struct("=2Q4I")  # mask, expires, serial, generation, epoch, reserved
COUNTS = struct.Struct("=9Q")


class KernelCounts(NamedTuple):
    """What the kernel stage did with the events of one type.

    No record exists of the last three: all slots were in use, the return was missed after the object was
    seen, or the operation could not be followed to its object. Only `unentered` is not part of `seen`.
    """

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


class Table(Protocol):
    """Where a hash table's entries are written: the map itself, or programs that write it for us."""

    def update(self, key: bytes, value: bytes) -> None:
        """Insert or replace."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it was not there."""


class Cells:
    """An array's values, in memory that the kernel shares with us; `letter` is the native format of a word.

    A word is written in one access, which `struct.pack_into` does not do: it clears its place first.
    """

    def __init__(self, array: Map, letter: Literal["I", "Q"]) -> None:
        self._memory = array.memory()
        self.words = memoryview(self._memory).cast("B").cast(letter)

    def close(self) -> None:
        """Unmap it. May be called again."""
        self.words.release()
        self._memory.close()


def lanes() -> int:
    """How many of the counters' lanes this machine's processors use."""
    last = _POSSIBLE.read_text("ascii").strip().replace("-", ",").rpartition(",")[2]
    return min(LANES, int(last) + 1)


class Tables:
    """The maps of one loaded object; `told` are the hash tables that are not written by their maps."""

    def __init__(self, maps: Mapping[str, Map], agent: int, told: Mapping[str, Table]) -> None:
        self._maps = maps
        self._told = {name: told.get(name, maps[name]) for name in ("approvers", "discarders")}
        self._serial = 0
        self._banks: list[dict[Approver, int]] = [{}, {}]
        self._lanes = lanes()
        for index in range(SLOTS):
            maps["free_slots"].update(b"", _U32.pack(index))
        self._config, self._policies, self._generation = (
            Cells(maps[name], "I") for name in ("config", "policies", "generation")
        )
        self._counters = Cells(maps["counts"], "Q")
        self._config.words[_AGENT] = agent

    @property
    def serial(self) -> int:
        """The number of the policy in force; records carry the number of the one that judged them."""
        return self._serial

    def set_scope(self, tgid: int) -> None:
        """See only what this process and its descendants do; 0: everything."""
        self._config.words[_SCOPE] = tgid

    def set_policy(self, policies: Mapping[EventType, Policy], approvers: Mapping[Approver, int]) -> int:
        """Put a policy in force in one step and return its number: written aside, then switched to.

        Event types that are not in `policies` are rejected whole. Discarders of the policy before are stale.
        """
        serial = self._serial + 1
        bank = serial & 1
        self._write_approvers(bank, approvers)
        for kind in EventType:
            at = (bank * _TYPES + kind) * len(Policy._fields)
            for offset, word in enumerate(policies.get(kind, Policy(REJECT_ALL))):
                self._policies.words[at + offset] = word
        self._config.words[_SERIAL] = self._serial = serial
        return serial

    def insert_discard(self, discarder: Discarder, discard: Discard) -> None:
        """Drop such events from now on, together with what was dropped there before."""
        self._told["discarders"].update(DISCARDER.pack(*discarder, 0), DISCARD.pack(*discard, 0))

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
        return self._generation.words[0]

    def close(self) -> None:
        """Let go of the memory that is shared. May be called again."""
        for cells in (self._config, self._policies, self._generation, self._counters):
            cells.close()

    def _counts(self, kind: EventType) -> KernelCounts:
        width = len(KernelCounts._fields)
        starts = ((lane * _TYPES + kind) * width for lane in range(self._lanes))
        rows = (self._counters.words[at : at + width].tolist() for at in starts)
        return KernelCounts(*map(sum, zip(*rows, strict=True)))

    def _write_approvers(self, bank: int, approvers: Mapping[Approver, int]) -> None:
        table, old = self._told["approvers"], self._banks[bank]
        for approver in old.keys() - approvers.keys():
            table.delete(APPROVER.pack(*approver, bank))
        for approver, mask in approvers.items():
            if old.get(approver) != mask:
                table.update(APPROVER.pack(*approver, bank), _U64.pack(mask))
        self._banks[bank] = dict(approvers)
