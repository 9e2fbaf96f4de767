"""Marks matches that a package manager caused, if the file now is the one of an installed package.

The database of packages has a file's digest only some time after the file was written. So the matches of
package managers wait, at most `HOLD_S`, until the database has the digest that the file has; others never
wait. A match that is not explained by then is delivered without a mark.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent.context.packages import RPM_FOLDERS, Database, is_manager
from agent.events.actors import Context
from agent.events.model import Event, EventType
from agent.rules.constants import WRITE_FLAGS
from agent.rules.fields import ON_ATTRIBUTES, WRITES
from agent.sinks.base import Match
from agent.sinks.render import quote

HOLD_S = 30.0
POLL_S = 1.0
MAX_HELD = 4_096
MAX_HELD_BYTES = 16 << 20
MAX_HASHED_BYTES = 64 << 20  # of one file
_BLOCK = 1 << 20
_CONTENT = frozenset(
    {EventType.CLOSE, EventType.RENAME, EventType.LINK, EventType.UNLINK, EventType.TRUNCATE}
)


@dataclass(slots=True)
class ExplainCounters:
    """Totals since the start."""

    explained: int = 0
    unexplained: int = 0  # waited in vain
    overflow: int = 0  # delivered at once, because too many waited


@dataclass(slots=True)
class _Held:
    match: Match
    path: bytes
    database: Database
    deadline: float


class Explainer:
    """Holds matches and sends them, marked or not. `databases` are those of the package managers, by name.

    The event loop calls `send`, and a thread of its own the rest. `root` leads to the host's root directory.
    """

    def __init__(
        self,
        databases: Mapping[bytes, Database],
        send: Callable[[Match], None],
        root: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counters = ExplainCounters()
        self._databases = databases
        self._send = send
        self._root = root
        self._clock = clock
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="explain", daemon=True)

    @property
    def held(self) -> int:
        """Matches that wait."""
        return len(self._held)

    def concerns(self, event: Event, context: Context) -> bool:
        """Whether a package database may explain an event."""
        if event.uid != 0 or context.process.package_manager not in self._databases:
            return False
        if event.type is EventType.OPEN and not event.flags & WRITE_FLAGS:
            return False
        # A digest says nothing of attributes, nor of refused attempts: they are explained only where the
        # package manager itself makes them. dpkg tries to remove each temporary file as a directory first.
        if event.retval < 0 or event.type in ON_ATTRIBUTES:
            return event.type in WRITES and is_manager(context.process)
        return event.type is EventType.OPEN or event.type in _CONTENT

    def send(self, match: Match, event: Event, context: Context) -> None:
        """Send a match now, or later if a package database may explain it."""
        if not self.concerns(event, context):
            self._send(match)
            return
        database = self._databases[context.process.package_manager]
        file = event.file2 if event.type is EventType.RENAME and event.file2 else event.file
        held = _Held(match, database.final_name(file.path), database, self._clock() + HOLD_S)
        with self._changed:
            full = len(self._held) >= MAX_HELD or self._bytes + len(match.line) > MAX_HELD_BYTES
            if not full:
                self._held.append(held)
                self._bytes += len(match.line)
                self._changed.notify()
        if full:
            self.counters.overflow += 1
            self._send(match)

    def start(self) -> None:
        """Start the thread. Drop privileges before."""
        self._thread.start()

    def close(self) -> None:
        """Look a last time, and send everything that waits."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()
        self.step(float("inf"))

    def step(self, now: float) -> None:
        """Send the matches that are explained, and those whose time is over at `now`."""
        with self._changed:
            waiting = list(self._held)
        explained = self._explain(waiting)
        kept = []
        for held in waiting:
            owned = explained.get(held.path)
            if owned is None and held.deadline > now:
                kept.append(held)
            elif owned is None:
                self.counters.unexplained += 1
                self._send(held.match)
            else:
                self.counters.explained += 1
                self._send(marked(held.match, owned))
        with self._changed:
            newer = list(self._held)[len(waiting) :]
            self._held = deque([*kept, *newer])
            self._bytes = sum(len(held.match.line) for held in self._held)

    def _run(self) -> None:
        while not self._closing:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._held)
                # Let more matches come, so that the database is read once for all of them.
                self._changed.wait_for(lambda: self._closing, POLL_S)
            if not self._closing:
                self.step(self._clock())

    def _explain(self, waiting: Iterable[_Held]) -> dict[bytes, str]:
        """Return `DATABASE:PACKAGE VERSION` by path, for the files that have the digest of their package."""
        found: dict[bytes, str] = {}
        for database in {id(held.database): held.database for held in waiting}.values():
            mine = [held for held in waiting if held.database is database]
            since = min(held.match.unix_ns for held in mine)
            for path, owned in database.owned({held.path for held in mine}, since).items():
                if digest(self._root + path, owned.algorithm) == owned.digest:
                    found[path] = f"{database.name}:{owned.package}"
        return found


def marked(match: Match, explanation: str) -> Match:
    """Return a match whose line says what explains it."""
    mark = b',"explained_by":' + quote(explanation).encode("ascii") + b"}"
    return match._replace(line=match.line.removesuffix(b"}") + mark)


def digest(path: bytes, algorithm: str) -> str:
    """Return the digest of a regular file in hexadecimal, "" if it has none or is too large."""
    hasher = hashlib.new(algorithm, usedforsecurity=False)
    with suppress(OSError):
        status = os.lstat(path)  # before the open, which has effects on devices
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_HASHED_BYTES:
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            while block := file.read(_BLOCK):
                hasher.update(block)
            return hasher.hexdigest()
    return ""


def databases() -> dict[bytes, Database]:
    """Return the databases of this host, by the package managers that keep them."""
    from agent.context.dpkg import Dpkg

    found: dict[bytes, Database] = {b"dpkg": Dpkg()}
    if any(folder.is_dir() for folder in RPM_FOLDERS):
        try:
            from agent.context.rpm import Rpm
        except ImportError:  # a Python without SQLite
            return found
        rpm = Rpm()
        found |= {b"rpm": rpm, b"dnf": rpm}
    return found
