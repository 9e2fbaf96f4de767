"""Models in Python what the programs in `bpf/` do with approvers and discarders.

Tests check the filter law with it: for any rules and any events, matches with this stage before the evaluator
equal the matches without it. Where the kernel's behaviour can vary, the model takes the variant that drops
more.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from agent.events.model import Event, EventType, File, FileFlags
from agent.filters.approvers import Approvers, Mode
from agent.filters.discarders import LEVELS, UNCERTAIN, Discard
from agent.rules.constants import WRITE_FLAGS

Key = tuple[int, int, int]  # identity, mount, level


def approves(approvers: Approvers, event: Event) -> bool:
    """Whether an event passes the first filter."""
    if approvers.mode is not Mode.APPROVE:
        return approvers.mode is Mode.FORWARD_ALL
    files = [event.file, event.file2] if event.file2 is not None else [event.file]
    if event.uid in approvers.uids or event.auid in approvers.auids:
        return True
    if any(file.inode in approvers.inodes for file in files):
        return True
    if approvers.upper_layer and any(file.flags & FileFlags.UPPER for file in files):
        return True
    return _approves_flags(approvers, event) or any(_approves_file(approvers, event, file) for file in files)


def _approves_flags(approvers: Approvers, event: Event) -> bool:
    if event.type is not EventType.OPEN:
        return False
    reads_only = event.flags & os.O_ACCMODE == os.O_RDONLY
    return bool(event.flags & approvers.flags_any) or (approvers.rdonly and reads_only)


def _approves_file(approvers: Approvers, event: Event, file: File) -> bool:
    reading = event.type is EventType.OPEN and not event.flags & WRITE_FLAGS
    if file.flags & UNCERTAIN:
        return approvers.looks_at_paths_of_reads if reading else approvers.looks_at_paths
    basenames, paths, prefixes = approvers.basenames, approvers.paths, approvers.prefixes
    if reading:
        basenames = basenames - approvers.write_basenames
        paths = paths - approvers.write_paths
        prefixes = prefixes - approvers.write_prefixes
    return (
        file.name in basenames or file.path in paths or any(above in prefixes for above in _above(file.path))
    )


def _above(path: bytes) -> Iterator[bytes]:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        yield path


class Kernel:
    """The kernel stage: approvers, discarders, and the epochs and generation that invalidate discarders.

    `capacity` bounds the number of discarders; the least recently used one is evicted.
    """

    def __init__(self, approvers: Mapping[EventType, Approvers], capacity: int = 1_024) -> None:
        self.generation = 1
        self._approvers = approvers
        self._capacity = capacity
        self._epochs: dict[int, int] = {}
        self._discards: OrderedDict[Key, tuple[int, int, int]] = OrderedDict()
        self.rejected = 0
        self.discarded = 0

    def reload(self, approvers: Mapping[EventType, Approvers]) -> None:
        """Replace the approvers and invalidate all discarders."""
        self._approvers = approvers
        self.invalidate()

    def invalidate(self) -> None:
        """Invalidate all discarders, because a directory was moved or a file system mounted."""
        self.generation += 1

    def touch(self, identity: int) -> None:
        """Invalidate the discarders of an inode that gained or lost a name, or was freed."""
        self._epochs[identity] = self.epoch(identity) + 1

    def epoch(self, identity: int) -> int:
        """Return the epoch of an inode."""
        return self._epochs.get(identity, 0)

    def stamp(self, event: Event) -> None:
        """Set the generation and epochs in an event, which the kernel reads before it resolves the path."""
        event.generation = self.generation
        for file in (event.file, event.file2):
            if file is not None:
                file.epochs = tuple(map(self.epoch, file.identities))

    def forwards(self, event: Event) -> bool:
        """Whether an event reaches user space."""
        if not approves(self._approvers[event.type], event):
            self.rejected += 1
            return False
        files = [event.file, event.file2] if event.file2 is not None else [event.file]
        if any(self._is_discarded(event, file) for file in files):
            self.discarded += 1
            return False
        return True

    def _is_discarded(self, event: Event, file: File) -> bool:
        # The inode may still have other names than the deleted one.
        deleted = bool(file.flags & FileFlags.DELETED)
        levels = (level for level in range(deleted, LEVELS + 1) if file.identities[level])
        return any(self._holds(event, file, level) for level in levels)

    def _holds(self, event: Event, file: File, level: int) -> bool:
        identity = file.identities[level]
        key = (identity, file.mount_id, level)
        discard = self._discards.get(key)
        if discard is None:
            return False
        self._discards.move_to_end(key)
        types, epoch, generation = discard
        current = generation == self.generation and epoch == self.epoch(identity)
        return current and bool(types & event.type.mask)

    def insert(self, event: Event, discards: Iterable[Discard]) -> None:
        """Insert discards that user space learned from an event.

        They are valid for the epochs and the generation of the event.
        """
        file = event.file
        for discard in discards:
            key = (file.identities[discard.level], file.mount_id, discard.level)
            self._discards[key] = (discard.types, file.epochs[discard.level], event.generation)
            self._discards.move_to_end(key)
            if len(self._discards) > self._capacity:
                self._discards.popitem(last=False)
