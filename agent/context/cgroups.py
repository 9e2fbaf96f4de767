"""Finds the path of a cgroup by the id that events carry.

The id is the inode of the cgroup's directory in the unified hierarchy, and the kernel does not reuse it
before the next boot. A path therefore stays valid after the cgroup was removed. A cgroup that was removed
before its first lookup stays unknown.

A lookup takes the same time however many cgroups exist, because users can create any number of them in the
subtrees that are delegated to them. Where the kernel does not open a directory by its id, the directories are
searched, but no more than `max_paths` of them.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.context import handles
from agent.context.procfs import ProcFs

MAX_PATHS = 4_096
WALK_INTERVAL_NS = 200_000_000  # event time; short-lived cgroups must not cause one walk each


@dataclass(slots=True)
class Counters:
    """Totals of the lookups since the start."""

    walks: int = 0
    unknown: int = 0  # cgroups that were removed before their first lookup
    evicted: int = 0


class CgroupPaths:
    """Paths of cgroups below `mount`, the unified hierarchy, by id; at most `max_paths` are cached."""

    def __init__(self, mount: Path, proc: ProcFs, max_paths: int = MAX_PATHS) -> None:
        self.counters = Counters()
        self._mount = mount
        self._proc = proc
        self._max_paths = max_paths
        self._paths: OrderedDict[int, bytes] = OrderedDict()
        self._missing: set[int] = set()  # ids with no lookup before the next walk
        self._next_walk_ns = 0
        self._by_id = handles.usable(mount)

    def path(self, cgroup_id: int, pid: int, time_ns: int) -> bytes | None:
        """Return the path of a cgroup, `/` for the root, or None if it is unknown.

        `pid` is a process in the cgroup, through which it is found fastest; `time_ns` is the time of the
        event.
        """
        path = self._paths.get(cgroup_id)
        if path is None:
            path = self._look_up(cgroup_id, pid, time_ns)
        else:
            self._paths.move_to_end(cgroup_id)
        return path

    def walk(self) -> None:
        """Read the paths of the cgroups that exist now, as many as are cached."""
        self.counters.walks += 1
        with suppress(OSError):
            self._remember(self._mount.stat().st_ino, b"/")
        for inode, path in islice(_directories(os.fsencode(self._mount)), self._max_paths - 1):
            self._remember(inode, path)

    def _look_up(self, cgroup_id: int, pid: int, time_ns: int) -> bytes | None:
        if self._by_id:
            return self._open(cgroup_id)
        if time_ns >= self._next_walk_ns:
            self._missing.clear()
        elif cgroup_id in self._missing:
            return None
        path = self._by_process(cgroup_id, pid)
        if path is None and time_ns >= self._next_walk_ns:
            self._next_walk_ns = time_ns + WALK_INTERVAL_NS
            self.walk()
            path = self._paths.get(cgroup_id)
        if path is None:
            self.counters.unknown += 1
            if len(self._missing) < self._max_paths:
                self._missing.add(cgroup_id)
        return path

    def _open(self, cgroup_id: int) -> bytes | None:
        with suppress(OSError):
            if path := handles.path_of(self._mount, cgroup_id):
                self._remember(cgroup_id, path)
                return path
        self.counters.unknown += 1
        return None

    def _by_process(self, cgroup_id: int, pid: int) -> bytes | None:
        path = unified_path(self._proc.cgroup(pid) or b"")
        try:
            # The process may have moved since the event.
            if not path or Path(os.fsdecode(os.fsencode(self._mount) + path)).stat().st_ino != cgroup_id:
                return None
        except OSError:
            return None
        self._remember(cgroup_id, path)
        return path

    def _remember(self, cgroup_id: int, path: bytes) -> None:
        self._paths[cgroup_id] = path
        if len(self._paths) > self._max_paths:
            self._paths.popitem(last=False)
            self.counters.evicted += 1


def unified_path(cgroup_file: bytes) -> bytes:
    """Return the path in the unified hierarchy from a `/proc/PID/cgroup`; b"" with only cgroup v1."""
    for line in cgroup_file.splitlines():
        if line.startswith(b"0::"):
            return line[3:]
    return b""


def has_legacy(cgroup_file: bytes) -> bool:
    """Whether the host also uses cgroup v1 hierarchies, which the cgroup id of events does not cover."""
    return any(not line.startswith(b"0::") for line in cgroup_file.splitlines())


def unified_mount(root: Path = Path("/sys/fs/cgroup")) -> Path:
    """Return the mount point of the unified hierarchy; in systemd's hybrid layout it is `unified`."""
    hybrid = root / "unified"
    return hybrid if hybrid.is_dir() else root


def _directories(root: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield inode and path of every directory below `root`; directories that vanish are left out."""
    pending = [b""]
    while pending:
        path = pending.pop()
        with suppress(OSError), os.scandir(root + path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below = path + b"/" + entry.name
                    pending.append(below)
                    yield entry.inode(), below
