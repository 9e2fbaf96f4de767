"""Stores processes by pid and time of birth in bounded memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass

from agent.events.actors import HOST, Container, Process

MAX_ENTRIES = 32_768
MAX_BYTES = 64 << 20
RETENTION_NS = 5_000_000_000  # how long an exited process is kept, in event time
FOREVER = 1 << 63
_ENTRY_BYTES = 800  # an entry with its process, numbers and table slots, measured with tracemalloc
_ARG_BYTES = 41  # an empty bytes object and its reference


class Entry:
    """One process, from `born_ns` to `died_ns` of CLOCK_BOOTTIME; `older` had the same pid before it.

    `process` is immutable and replaced on changes, so that descendants can share it. `ancestors` is None
    until they are looked up.
    """

    __slots__ = (
        *("ancestors", "born_ns", "bytes", "container", "died_ns", "inherited", "older", "process"),
        "root",
    )

    def __init__(self, process: Process, born_ns: int, ancestors: tuple[Process, ...] | None) -> None:
        self.process = process
        self.born_ns = born_ns
        self.died_ns = FOREVER
        self.ancestors = ancestors
        self.older: Entry | None = None
        self.container: Container | None = None  # only used on cgroup v1
        self.inherited: Container = HOST
        self.root = b""  # root directory, from its last event
        self.bytes = 0

    @property
    def alive(self) -> bool:
        """Whether no exit was reported."""
        return self.died_ns == FOREVER

    def weigh(self) -> int:
        """Return the bytes of this entry; shared ancestors count for each of their descendants."""
        return _ENTRY_BYTES + _text(self.process) + sum(map(_text, self.ancestors or ()))


def _text(process: Process) -> int:
    args = process.args
    return len(process.exe) + sum(map(len, args)) + _ARG_BYTES * len(args)


@dataclass(slots=True)
class Evictions:
    """Entries removed for lack of room since the start."""

    exited: int = 0  # before the end of their retention
    live: int = 0


class ProcessTable:
    """The entries. Beyond a bound, exited processes are evicted first, then the least recently used.

    `max_bytes` bounds the sum of the entries' weights, an upper bound of their memory, most of which is
    shared.
    """

    def __init__(self, tick_ns: int, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self.evicted = Evictions()
        self.bytes = 0
        self._tick_ns = tick_ns
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._count = 0
        self._newest: OrderedDict[int, Entry] = OrderedDict()
        self._exited: deque[Entry] = deque()

    def __len__(self) -> int:
        return self._count

    def __contains__(self, pid: int) -> bool:
        return pid in self._newest

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the newest process of each pid."""
        return iter(list(self._newest.values()))

    def at(self, pid: int, time_ns: int) -> Entry | None:
        """Return the process that had `pid` at `time_ns`, or None."""
        entry = self._newest.get(pid)
        # A time of birth from /proc is rounded down, so it is never later than the process's own events.
        while entry is not None and entry.born_ns > time_ns:
            entry = entry.older
        return entry

    def touch(self, pid: int) -> None:
        """Mark a pid as the most recently used."""
        self._newest.move_to_end(pid)

    def add(self, entry: Entry) -> None:
        """Add a process. An earlier process of its pid has exited, whether that was reported or not."""
        newest = self._newest.get(entry.process.pid)
        if newest is not None and newest.born_ns > entry.born_ns:
            self._insert_below(newest, entry)
        else:
            if newest is not None and newest.alive:
                self.bury(newest, entry.born_ns)
            entry.older = newest
            self._newest[entry.process.pid] = entry
            self.touch(entry.process.pid)
        self._count += 1
        self.charge(entry)

    def is_same(self, entry: Entry, born_ns: int) -> bool:
        """Whether an event's time of birth can be that of an entry, which `/proc` rounds down to a tick."""
        return entry.alive and entry.born_ns <= born_ns < entry.born_ns + self._tick_ns

    def charge(self, entry: Entry) -> None:
        """Update the weight of a new or changed entry, and evict others if necessary."""
        weight = entry.weigh()
        self.bytes += weight - entry.bytes
        entry.bytes = weight
        while self._count > self._max_entries or (self.bytes > self._max_bytes and self._count > 1):
            self._evict()

    def bury(self, entry: Entry, died_ns: int) -> None:
        """Record an exit; the entry is kept for the retention."""
        entry.died_ns = died_ns
        self._exited.append(entry)

    def forget(self, now_ns: int) -> None:
        """Remove entries whose retention has ended at `now_ns`, the time of the current event."""
        while self._exited and self._exited[0].died_ns + RETENTION_NS < now_ns:
            self._remove(self._exited.popleft())

    def _insert_below(self, newer: Entry, entry: Entry) -> None:
        """Insert an earlier process of a pid whose next process the scan has read already."""
        while newer.older is not None and newer.older.born_ns > entry.born_ns:
            newer = newer.older
        entry.older, newer.older = newer.older, entry
        self.bury(entry, newer.born_ns)

    def _evict(self) -> None:
        if self._exited:
            self.evicted.exited += 1
            self._remove(self._exited.popleft())
        else:
            self.evicted.live += 1
            self._remove(next(iter(self._newest.values())))

    def _remove(self, entry: Entry) -> None:
        pid = entry.process.pid
        newer: Entry | None = None
        found = self._newest.get(pid)
        while found is not None and found is not entry:
            newer, found = found, found.older
        if found is None:
            return
        if newer is not None:
            newer.older = entry.older
        elif entry.older is not None:
            self._newest[pid] = entry.older
        else:
            del self._newest[pid]
        self._count -= 1
        self.bytes -= entry.bytes
