"""Defines kprobes through tracefs, which sets how many returns may be pending and counts the missed ones.

Through perf alone the kernel has room for ten pending returns of a function, or two for each CPU. A task that
opens a FIFO sleeps in that function without limit, and the return of the eleventh call would be missed. So
without tracefs no kretprobe is used. A definition survives the process that made it, with nothing attached.
So its name has the pid, and the next agent removes the definitions of processes that no longer run.
"""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_GROUP = re.compile(r"^[pr]\d*:(fim_(\d+)_\d+)/(\w+) ", re.MULTILINE)
_serial = itertools.count()

# How many returns of one function may be pending. Opens of FIFOs and devices sleep as long as a user likes:
# for them the most that the kernel allows. With one more sleeping open the returns of all opens are missed.
MAX_ACTIVE = 1024
MAX_ACTIVE_AT = {"do_filp_open": 4096, "do_file_open": 4096}


def writable() -> Path | None:
    """Return where tracefs is mounted and this process can define kprobes, or None."""
    return next((root for root in _PLACES if os.access(root / "kprobe_events", os.W_OK)), None)


class Kprobes:
    """The kprobe events of one loaded variant."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: list[str] = []
        self._misses: dict[str, int] = {}
        self.group = f"fim_{os.getpid()}_{next(_serial)}"

    @classmethod
    def available(cls) -> Kprobes | None:
        """Return an instance for the tracefs that this process can write to, or None."""
        root = writable()
        if root is None:
            return None
        kprobes = cls(root)
        kprobes.reap()
        return kprobes

    def define(self, name: str, function: str, at_return: bool) -> None:
        """Define an event at a function's entry or return. Raises OSError if it cannot be probed."""
        kind = f"r{MAX_ACTIVE_AT.get(function, MAX_ACTIVE)}" if at_return else "p"
        self._write(f"{kind}:{self.group}/{name} {function}")
        self._names.append(name)

    def misses(self) -> dict[str, int]:
        """Return how often the kernel skipped each event's probe; the last known counts if it hides them.

        It hides them once lockdown is raised.
        """
        try:
            lines = (self._root / "kprobe_profile").read_text("ascii", "replace").splitlines()
        except OSError:
            return self._misses
        rows = (line.split() for line in lines)
        known = set(self._names)
        self._misses = {row[0]: int(row[2]) for row in rows if len(row) == len("nhm") and row[0] in known}
        return self._misses

    def remove(self, name: str) -> None:
        """Remove an event; detach its program first."""
        self._names.remove(name)
        self._remove(self.group, name)

    def close(self) -> None:
        """Remove all events; detach their programs first. May be called again."""
        for name in self._names:
            self._remove(self.group, name)
        self._names.clear()

    def reap(self) -> None:
        """Remove the events of agents that no longer run."""
        defined = (self._root / "kprobe_events").read_text("ascii", "replace")
        for group, pid, name in _GROUP.findall(defined):
            if not Path(f"/proc/{pid}").exists():
                self._remove(group, name)

    def _remove(self, group: str, name: str) -> None:
        try:
            self._write(f"-:{group}/{name}")
        except OSError:
            return  # already removed, or still in use: the next agent tries again

    def _write(self, command: str) -> None:
        # Not open(.., "a"), which seeks to the end: this file has no end.
        events = os.open(self._root / "kprobe_events", os.O_WRONLY | os.O_APPEND)
        try:
            os.write(events, command.encode("ascii") + b"\n")
        finally:
            os.close(events)
