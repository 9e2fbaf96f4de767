"""Defines the protocol that every sink implements."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)  # errors that may pass while the agent runs


class Match(NamedTuple):
    """One event that one rule matched; `line` is its JSON (see agent/sinks/render.py) without a newline."""

    rule: str
    event_type: str
    unix_ns: int
    line: bytes


@dataclass(slots=True)
class SinkCounters:
    """Totals of matches since the start. A match is delivered, dropped, queued or spooled."""

    delivered: int = 0
    dropped: int = 0  # finally rejected by the collector, or not stored for lack of space
    errors: int = 0  # failed attempts, most of which are repeated


class Sink(Protocol):
    """A destination of matches. One thread uses it; its methods may block for a bounded time."""

    name: str
    linger_s: float  # how long a match may wait to be written in one batch with others
    counters: SinkCounters

    def write(self, matches: Sequence[Match]) -> int:
        """Write matches in order and return how many; the caller offers the rest again after `retry_s`."""

    def tick(self) -> None:
        """Do what is due, without new matches."""

    @property
    def retry_s(self) -> float:
        """Seconds until the caller should call `write` or `tick` again."""

    def reopen(self) -> None:
        """Open files again that may have been rotated."""

    def close(self) -> None:
        """Deliver or store the remaining matches, then release all resources."""

    def status(self) -> dict[str, int]:
        """Return the sink's own numbers, by name."""
