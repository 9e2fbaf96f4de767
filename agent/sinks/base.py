"""What every sink is: the one protocol between the stream of matches and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True, frozen=True)
class Match:
    """One event that one rule matched; `line` is its JSON (see agent/sinks/render.py) without a newline."""

    rule: str
    event_type: str
    unix_ns: int
    line: bytes


@dataclass(slots=True)
class SinkCounters:
    """Matches, since the start: what was offered is delivered, dropped, or still queued or spooled."""

    delivered: int = 0
    dropped: int = 0  # given up: refused for good by the other side, or no room to keep them
    errors: int = 0  # failed attempts, of which most are tried again


class Sink(Protocol):
    """Where matches go. A sink is used by one thread and may block, but not for ever."""

    name: str
    linger_s: float  # how long a match may wait for others to share a write with
    counters: SinkCounters

    def write(self, matches: Sequence[Match]) -> int:
        """Takes matches in order and says how many it took; the rest are offered again after `retry_s`."""

    def tick(self) -> None:
        """Does what is due although nothing new came."""

    @property
    def retry_s(self) -> float:
        """Seconds after which `write` or `tick` is worth calling again."""

    def reopen(self) -> None:
        """Lets go of files that may have been rotated away."""

    def close(self) -> None:
        """Delivers or keeps what is left, then releases everything."""

    def status(self) -> dict[str, int]:
        """Numbers of its own, by name."""
