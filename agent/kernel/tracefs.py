"""Kprobes by way of tracefs: the way to say how many returns may be waited for, and to read what was missed.

Through perf alone the kernel keeps room for ten sleeping calls of a function, or two a processor; a task that
opens a FIFO sleeps in that function for as long as it likes, and the eleventh call's return would be lost.
What is defined here stays defined when a process is killed (nothing is attached to it then): it carries the
pid, and the next agent removes what the dead have left.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_GROUP = re.compile(r"^[pr]\d*:(fim_(\d+)_\d+)/(\w+) ", re.MULTILINE)
_serial = itertools.count()

MAX_ACTIVE = 1024  # calls of one function that may sleep at a time


class Kprobes:
    """The kprobe events of one load."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[str] = []
        self.group = f"fim_{os.getpid()}_{next(_serial)}"

    @classmethod
    def available(cls) -> Kprobes | None:
        """Where this kernel lets kprobes be defined, or None."""
        for root in _PLACES:
            if os.access(root / "kprobe_events", os.W_OK):
                kprobes = cls(root)
                kprobes.reap()
                return kprobes
        return None

    def define(self, name: str, function: str, at_return: bool) -> None:
        """Make an event of a function's entry or return. Raises OSError if the function cannot be probed."""
        where = f"r{MAX_ACTIVE}" if at_return else "p"
        self._write(f"{where}:{self.group}/{name} {function}")
        self._names.append(name)

    def misses(self) -> dict[str, int]:
        """How often each event's probe was skipped."""
        try:
            lines = (self._root / "kprobe_profile").read_text("ascii", "replace").splitlines()
        except OSError:
            return {}
        rows = (line.split() for line in lines)
        known = set(self._names)
        return {row[0]: int(row[2]) for row in rows if len(row) == len("nhm") and row[0] in known}

    def close(self) -> None:
        """Remove them; what is attached must be detached before. May be called again."""
        for name in self._names:
            self._remove(self.group, name)
        self._names.clear()

    def reap(self) -> None:
        """Remove what agents defined that no longer run."""
        defined = (self._root / "kprobe_events").read_text("ascii", "replace")
        for group, pid, name in _GROUP.findall(defined):
            if not Path(f"/proc/{pid}").exists():
                self._remove(group, name)

    def _remove(self, group: str, name: str) -> None:
        try:
            self._write(f"-:{group}/{name}")
        except OSError:
            return  # gone already, or still in use by someone: the next agent tries again

    def _write(self, command: str) -> None:
        # Not open(.., "a"): that seeks to the end, which this file does not have.
        events = os.open(self._root / "kprobe_events", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(events, command.encode("ascii") + b"\n")
        finally:
            os.close(events)
