"""Stores processes by pid and time of birth in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from agent.context.entry import Entry
from agent.context.shares import Shares
from agent.events.actors import Process

MAX_ENTRIES = 32_768
MAX_BYTES = 64 << 20
RETENTION_NS = 5_000_000_000  # how long an exited process is kept, in event time


@dataclass(slots=True)
class Evictions:
    """Entries removed for lack of room since the start."""

    exited: int = 0  # before the end of their retention
    live: int = 0


class ProcessTable:
    """The entries. Beyond a bound, those of the user who has the most are evicted.

    Of this user, first the exited ones are evicted, then the least recently used. `max_bytes`
    bounds the sum of the users' shares, an upper bound of the memory.
    """

    def __init__(self, tick_ns: int, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self.evicted = Evictions()
        self._tick_ns = tick_ns
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._count = 0
        self._shares = Shares(max_bytes // max_entries)
        self._newest: dict[int, Entry] = {}
        self._exited: OrderedDict[Entry, None] = OrderedDict()

    @property
    def memory(self) -> int:
        """The sum of the users' shares."""
        return self._shares.bytes

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

    def touch(self, entry: Entry) -> None:
        """Mark an entry as the most recently used of its user."""
        self._shares.touch(entry)

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
        self._count += 1
        entry.stored = True
        self._shares.add(entry)
        self._make_room()

    def is_same(self, entry: Entry, born_ns: int) -> bool:
        """Whether an event's time of birth can be that of an entry, which `/proc` rounds down to a tick."""
        return entry.alive and entry.born_ns <= born_ns < entry.born_ns + self._tick_ns

    def change(
        self, entry: Entry, process: Process, ancestors: tuple[Process, ...] | None, root: bytes
    ) -> None:
        """Replace what is known of an entry, and evict others if necessary."""
        if entry.stored:  # it may have been evicted since it was looked up
            self._shares.remove(entry)
        entry.process, entry.ancestors, entry.root = process, ancestors, root
        if entry.stored:
            self._shares.add(entry)
            self._make_room()

    def bury(self, entry: Entry, died_ns: int) -> None:
        """Record an exit; the entry is kept for the retention."""
        if entry.stored:
            self._shares.bury(entry)
        entry.died_ns = died_ns
        self._exited[entry] = None

    def forget(self, now_ns: int) -> None:
        """Remove entries whose retention has ended at `now_ns`, the time of the current event."""
        while self._exited and (first := next(iter(self._exited))).died_ns + RETENTION_NS < now_ns:
            self._remove(first)

    def _insert_below(self, newer: Entry, entry: Entry) -> None:
        """Insert an earlier process of a pid whose next process the scan has read already."""
        while newer.older is not None and newer.older.born_ns > entry.born_ns:
            newer = newer.older
        entry.older, newer.older = newer.older, entry
        self.bury(entry, newer.born_ns)

    def _make_room(self) -> None:
        while self._count > self._max_entries or (self.memory > self._max_bytes and self._count > 1):
            share = self._shares.largest()
            if share.exited:
                self.evicted.exited += 1
            else:
                self.evicted.live += 1
            self._remove(next(iter(share.exited or share.live)))

    def _remove(self, entry: Entry) -> None:
        pid = entry.process.pid
        newer: Entry | None = None
        found = self._newest[pid]
        while found is not entry and found.older is not None:
            newer, found = found, found.older
        if newer is not None:
            newer.older = entry.older
        elif entry.older is not None:
            self._newest[pid] = entry.older
        else:
            del self._newest[pid]
        self._exited.pop(entry, None)
        self._shares.remove(entry)
        entry.stored = False
        self._count -= 1
