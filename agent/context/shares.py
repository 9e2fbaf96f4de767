"""Divides the memory of the process cache between users, so that one user's processes evict only their own.

What several entries of a user share is counted once for this user, as if the user were alone. So the sum over
all users is never less than what the entries keep in memory.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from agent.context.entry import Entry
from agent.events.actors import Process

# Measured with tracemalloc, a little more than any process took.
ENTRY_BYTES = 700  # an entry with its numbers, places in tables and the references to its ancestors
_PROCESS_BYTES = 500  # a process with its numbers and names, and the place in which its holders are counted
_ARG_BYTES = 56  # an empty bytes object, its rest to 16 bytes and its reference
_LEVELS = 64
_COMPARED = 16  # of the shares of one level


class Share:
    """The entries of one user, and the bytes that they keep in memory."""

    def __init__(self, user: int) -> None:
        self.user = user
        self.bytes = 0
        self.level = 0
        self.exited: OrderedDict[Entry, None] = OrderedDict()  # the first one exited first
        self.live: OrderedDict[Entry, None] = OrderedDict()  # the last one was used last
        self._holders: dict[int, int] = {}  # entries that keep a process, by its address

    def __len__(self) -> int:
        return len(self.exited) + len(self.live)

    def add(self, entry: Entry) -> None:
        """Count an entry, and those of its processes that no other entry of the user keeps."""
        (self.live if entry.alive else self.exited)[entry] = None
        self.bytes += ENTRY_BYTES + len(entry.root)
        for process in entry.held:
            holders = self._holders.get(id(process), 0)
            self._holders[id(process)] = holders + 1
            if not holders:
                self.bytes += weigh(process)

    def remove(self, entry: Entry) -> None:
        """Count an entry no more, nor those of its processes that only it kept."""
        del (self.live if entry.alive else self.exited)[entry]
        self.bytes -= ENTRY_BYTES + len(entry.root)
        for process in entry.held:
            holders = self._holders.pop(id(process)) - 1
            if holders:
                self._holders[id(process)] = holders
            else:
                self.bytes -= weigh(process)


def weigh(process: Process) -> int:
    """Return the bytes of a process without its ancestors."""
    args = process.args
    return _PROCESS_BYTES + len(process.exe) + sum(map(len, args)) + _ARG_BYTES * len(args)


class Shares:
    """The shares of all users, ordered by the power of two that is their size.

    `least` is the least that an entry counts when shares are compared, because the number of entries is
    bounded, too.
    """

    def __init__(self, least: int) -> None:
        self.bytes = 0
        self._least = least
        self._shares: dict[int, Share] = {}
        self._levels: list[dict[int, Share]] = [{} for _ in range(_LEVELS)]

    def add(self, entry: Entry) -> None:
        """Count an entry for its user."""
        share = self._shares.get(entry.user)
        if share is None:
            share = self._shares[entry.user] = Share(entry.user)
        self.bytes -= share.bytes
        share.add(entry)
        self.bytes += share.bytes
        self._rank(share)

    def remove(self, entry: Entry) -> None:
        """Count an entry no more; it is as it was when it was added."""
        share = self._shares[entry.user]
        self.bytes -= share.bytes
        share.remove(entry)
        self.bytes += share.bytes
        self._rank(share)

    def bury(self, entry: Entry) -> None:
        """Count a live entry, which is about to be marked as exited, among those that exited."""
        share = self._shares[entry.user]
        del share.live[entry]
        share.exited[entry] = None

    def touch(self, entry: Entry) -> None:
        """Mark an entry as the most recently used of its user."""
        if entry.alive:
            self._shares[entry.user].live.move_to_end(entry)

    def largest(self) -> Share:
        """Return the share of the user who has the most; one must exist.

        Of more than `_COMPARED` shares that are more than half of the largest one, it may be another.
        """
        level = next(level for level in reversed(self._levels) if level)
        return max(islice(level.values(), _COMPARED), key=self._size)

    def _size(self, share: Share) -> int:
        return max(share.bytes, len(share) * self._least)

    def _rank(self, share: Share) -> None:
        self._levels[share.level].pop(share.user, None)
        if not share:
            del self._shares[share.user]
            return
        share.level = self._size(share).bit_length()
        self._levels[share.level][share.user] = share
