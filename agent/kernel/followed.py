"""Keeps the map of followed system calls, which programs at all system calls look their calls up in."""

from __future__ import annotations

import os
import struct
from collections.abc import Collection

from agent.events.model import EventType
from agent.hooks import needs, syscalls
from agent.kernel.libbpf import Map
from agent.kernel.maps import Cells

_ROW = struct.Struct("=4I")
_NOT_FOLLOWED = bytes(_ROW.size)


class FollowedCalls:
    """The system calls of events that no other hook sees; without a map there are none."""

    def __init__(self, table: Map | None) -> None:
        self._cells = Cells(table, "I") if table else None
        self._rows: dict[int, bytes] = {}

    def set(self, events: Collection[EventType], hooks: frozenset[str]) -> None:
        """Follow the calls of these events, as far as these hooks see only their system calls."""
        if self._cells is None:
            return
        seen = frozenset(event for event in events if needs.by_syscalls(event, hooks))
        wanted = dict(syscalls.rows(os.uname().machine, seen)) if seen else {}
        for index in self._rows.keys() | wanted.keys():
            self._write(index, wanted.get(index, _NOT_FOLLOWED))
        self._rows = wanted

    def close(self) -> None:
        """Unmap the shared memory. May be called again."""
        if self._cells:
            self._cells.close()

    def _write(self, index: int, row: bytes) -> None:
        """Write a row of which programs must not see half: its first word has the event type."""
        assert self._cells is not None
        words = _ROW.unpack(row)
        if self._rows.get(index) == row:
            return
        at = index * len(words)
        self._cells.words[at] = 0
        for offset in range(len(words) - 1, -1, -1):
            self._cells.words[at + offset] = words[offset]
