"""From a cgroup id, as events carry it, to the cgroup's path.

The id is the inode of the cgroup's directory in the unified hierarchy, and is not used again before the next
boot. So what was found stays true, also after the cgroup is gone; what was gone before it was looked for
stays unknown.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.context.procfs import ProcFs

MAX_PATHS = 4_096
WALK_INTERVAL_NS = 200_000_000  # of the stream's time: cgroups that come and go must not cost a walk each


@dataclass(slots=True)
class Counters:
    """What the lookups cost, since the start."""

    walks: int = 0
    unknown: int = 0  # cgroups gone before they were looked for
    evicted: int = 0


class CgroupPaths:
    """Paths of cgroups below `mount`, the unified hierarchy, by id; at most `MAX_PATHS` are remembered."""

    def __init__(self, mount: Path, proc: ProcFs, max_paths: int = MAX_PATHS) -> None:
        self.counters = Counters()
        self._mount = mount
        self._proc = proc
        self._max_paths = max_paths
        self._paths: OrderedDict[int, bytes] = OrderedDict()
        self._missing: set[int] = set()  # not looked for again before the next walk
        self._next_walk_ns = 0

    def path(self, cgroup_id: int, pid: int, time_ns: int) -> bytes | None:
        """The path of a cgroup, `/` for the root; `None` if it is not known.

        `pid` is a process in it, which is the quick way to find it; `time_ns` is the event's time.
        """
        found = self._paths.get(cgroup_id)
        if found is None:
            found = self._look_for(cgroup_id, pid, time_ns)
        else:
            self._paths.move_to_end(cgroup_id)
        return found

    def walk(self) -> None:
        """Learns every cgroup there is now."""
        self.counters.walks += 1
        with suppress(OSError):
            self._remember(self._mount.stat().st_ino, b"/")
        for inode, path in _directories(os.fsencode(self._mount)):
            self._remember(inode, path)

    def _look_for(self, cgroup_id: int, pid: int, time_ns: int) -> bytes | None:
        if time_ns >= self._next_walk_ns:
            self._missing.clear()
        elif cgroup_id in self._missing:
            return None
        found = self._by_process(cgroup_id, pid)
        if found is None and time_ns >= self._next_walk_ns:
            self._next_walk_ns = time_ns + WALK_INTERVAL_NS
            self.walk()
            found = self._paths.get(cgroup_id)
        if found is None:
            self.counters.unknown += 1
            if len(self._missing) < self._max_paths:
                self._missing.add(cgroup_id)
        return found

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
    """The path in the unified hierarchy from a `/proc/PID/cgroup`; empty on cgroup v1 alone."""
    for line in cgroup_file.splitlines():
        if line.startswith(b"0::"):
            return line[3:]
    return b""


def has_legacy(cgroup_file: bytes) -> bool:
    """Whether processes are also sorted into cgroup v1 hierarchies, which no event's cgroup id tells of."""
    return any(not line.startswith(b"0::") for line in cgroup_file.splitlines())


def unified_mount(root: Path = Path("/sys/fs/cgroup")) -> Path:
    """Where the unified hierarchy is mounted; systemd's hybrid layout has it one level down."""
    hybrid = root / "unified"
    return hybrid if hybrid.is_dir() else root


def _directories(root: bytes) -> Iterator[tuple[int, bytes]]:
    """Inode and path of every directory below `root`; what vanishes meanwhile is left out."""
    pending = [b""]
    while pending:
        path = pending.pop()
        with suppress(OSError), os.scandir(root + path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below = path + b"/" + entry.name
                    pending.append(below)
                    yield entry.inode(), below
