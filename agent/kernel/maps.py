"""Reads and writes the maps of `bpf/maps.h`: policy, discarders and counters, laid out as in C.

Arrays are mapped into this process's memory. Hash tables are written through a `Table`: where the kernel
supports it `agent.kernel.map_writer`, which does not make the kernel skip kprobes, else the map itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from agent.events.model import EventType
from agent.kernel.libbpf import Map

REJECT_ALL, APPROVE, FORWARD_ALL = range(3)

WRITING = 32  # the bits of an approver's mask from this one on apply only to opens for writing

BY_BASENAME, BY_PATH, BY_PREFIX, BY_FLAGS, BY_RDONLY, BY_UID, BY_AUID, BY_UPPER, BY_INODE = (
    1 << bit for bit in range(9)
)

CPUS = 64
SHARED_SLOTS = range(2 * CPUS, 2 * CPUS + 64)  # those below belong to processors
SHARED_OPERATIONS = range(1024, 1024 + 16384)  # those below belong to threads
ACCOUNTS = 16384
_TYPES = 32
_VOID_STEP = 1 << 20
_POSSIBLE = Path("/sys/devices/system/cpu/possible")

_U32 = struct.Struct("=I")
_U64 = struct.Struct("=Q")
CONFIG = struct.Struct("=4I")  # serial, agent, scope, remembers
_SERIAL, _AGENT, _SCOPE, _REMEMBERS = range(4)
POLICY = struct.Struct("=4I")  # mode, kinds, flags_any, read_kinds
APPROVER = struct.Struct("=Q2I")  # value, kind, bank
DISCARDER = struct.Struct("=Q2I")  # identity, mount_id, level
DISCARD = struct.Struct("=2Q4I")  # mask, expires, serial, generation, epoch, reserved
COUNTS = struct.Struct("=9Q")
ACCOUNT = struct.Struct("=2Q4I")  # paid_until, lost, operations, kept, uid, reserved


class KernelCounts(NamedTuple):
    """What the kernel stage did with the events of one type.

    Events of the last three counters have no record: there was no memory for it or its user held too much of
    it, the return was missed after the object was seen, or the entry of the operation was missed. `seen`
    includes all but `unentered`.
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
    """One event type's policy: the kinds of approvers, for all events and for opens that do not write."""

    mode: int
    kinds: int = 0
    flags_any: int = 0
    read_kinds: int = 0


class Approver(NamedTuple):
    """A value that approves events: the hash of a name, or an id, and its kind."""

    value: int
    kind: int


class Discarder(NamedTuple):
    """The key of a discarder."""

    identity: int
    mount_id: int
    level: int


class Discard(NamedTuple):
    """The event types that a discarder drops, and the state in which it is valid.

    `expires_ns` is a time of CLOCK_BOOTTIME.
    """

    mask: int
    expires_ns: int
    serial: int
    generation: int
    epoch: int


class Table(Protocol):
    """Writes the entries of a hash table: a `Map` itself, or a `MapWriter`."""

    def update(self, key: bytes, value: bytes) -> None:
        """Insert or replace an entry."""

    def delete(self, key: bytes) -> bool:
        """Remove a key; return False if the map does not have it."""


class Cells:
    """The values of an array in shared memory; `letter` is the native struct format of a word.

    A word is written in one access. `struct.pack_into` would write zero first, which the kernel could read.
    """

    def __init__(self, array: Map, letter: Literal["I", "Q"]) -> None:
        self._memory = array.memory()
        self.words = memoryview(self._memory).cast("B").cast(letter)

    def close(self) -> None:
        """Unmap the memory. May be called again."""
        self.words.release()
        self._memory.close()


def counted_cpus() -> int:
    """Return how many CPUs of this machine have counters of their own."""
    last = _POSSIBLE.read_text("ascii").strip().replace("-", ",").rpartition(",")[2]
    return min(CPUS, int(last) + 1)


class Tables:
    """The maps of one object; `agent` is this process's pid, `writers` write tables in place of maps."""

    def __init__(self, maps: Mapping[str, Map], agent: int, writers: Mapping[str, Table]) -> None:
        self._maps = maps
        self._writers = {name: writers.get(name, maps[name]) for name in ("approvers", "discarders")}
        self._serial = 0
        self._banks: list[dict[Approver, int]] = [{}, {}]
        self._cpus = counted_cpus()
        maps["free_slots"].push(map(_U32.pack, SHARED_SLOTS))
        maps["free_operations"].push(map(_U32.pack, SHARED_OPERATIONS))
        self._config, self._policies, self._generation = (
            Cells(maps[name], "I") for name in ("config", "policies", "generation")
        )
        self._counters = Cells(maps["counts"], "Q")
        self._accounts = Cells(maps["accounts"], "Q")
        self._config.words[_AGENT] = agent

    @property
    def serial(self) -> int:
        """The serial number of the current policy. A record has the number of the policy that it passed."""
        return self._serial

    def set_scope(self, tgid: int) -> None:
        """Report only events of this process and its descendants; with 0, of all processes."""
        self._config.words[_SCOPE] = tgid

    def set_policy(
        self, policies: Mapping[EventType, Policy], approvers: Mapping[Approver, int], remembers: bool = False
    ) -> int:
        """Write a policy to the unused bank, switch to it in one step, and return its serial number.

        The kernel rejects all events of types that are not in `policies`. Discarders of earlier policies
        become stale. `remembers` is whether the programs may use what `bpf/directories.h` remembers.
        """
        serial = self._serial + 1
        bank = serial & 1
        self._write_approvers(bank, approvers)
        for kind in EventType:
            at = (bank * _TYPES + kind) * len(Policy._fields)
            for offset, word in enumerate(policies.get(kind, Policy(REJECT_ALL))):
                self._policies.words[at + offset] = word
        self._config.words[_SERIAL] = self._serial = serial
        self._config.words[_REMEMBERS] = remembers  # after: what earlier policies remembered is stale now
        return serial

    def insert_discard(self, discarder: Discarder, discard: Discard) -> None:
        """Insert a discarder, or replace it."""
        self._writers["discarders"].update(DISCARDER.pack(*discarder), DISCARD.pack(*discard, 0))

    def discards(self) -> Iterator[tuple[Discarder, Discard]]:
        """Yield all discarders in the map, valid or stale."""
        table = self._maps["discarders"]
        for key in table.keys():  # noqa: SIM118 - a map is no mapping: keys() walks the kernel's table
            if value := table.lookup(key):
                yield Discarder(*DISCARDER.unpack(key)), Discard(*DISCARD.unpack(value)[:5])

    def counts(self) -> dict[EventType, KernelCounts]:
        """Return the counters since the load, summed over all CPUs."""
        return {kind: self._counts(kind) for kind in EventType}

    def losses(self) -> dict[int, int]:
        """Return how many events were lost since the load, by the user id whose events they were."""
        found: dict[int, int] = {}
        width = ACCOUNT.size // _U64.size
        lost = self._accounts.words[1 : ACCOUNTS * width : width].tolist()
        for index, count in enumerate(lost):
            if count:
                *_, uid, _ = ACCOUNT.unpack_from(self._accounts.words[index * width : (index + 1) * width])
                found[uid] = found.get(uid, 0) + count
        return found

    def generation(self) -> int:
        """Return the current generation; discarders of earlier generations are stale."""
        return self._generation.words[0]

    def void_discards(self) -> None:
        """Make every discarder stale.

        The step is large because a program may advance the generation between our read and our write: no
        discarder may carry the number that results.
        """
        self._generation.words[0] = (self._generation.words[0] + _VOID_STEP) & 0xFFFF_FFFF

    def close(self) -> None:
        """Unmap the shared memory. May be called again."""
        for cells in (self._config, self._policies, self._generation, self._counters, self._accounts):
            cells.close()

    def _counts(self, kind: EventType) -> KernelCounts:
        width = len(KernelCounts._fields)
        starts = ((cpu * _TYPES + kind) * width for cpu in range(self._cpus))
        rows = (self._counters.words[at : at + width].tolist() for at in starts)
        return KernelCounts(*map(sum, zip(*rows, strict=True)))

    def _write_approvers(self, bank: int, approvers: Mapping[Approver, int]) -> None:
        # The bank is noted entry by entry: if the map is full, the next policy is written to the same bank.
        table, written = self._writers["approvers"], self._banks[bank]
        for approver in written.keys() - approvers.keys():
            del written[approver]
            table.delete(APPROVER.pack(*approver, bank))
        for approver, mask in approvers.items():
            if written.get(approver) != mask:
                table.update(APPROVER.pack(*approver, bank), _U64.pack(mask))
                written[approver] = mask
