"""Looks up the context of an event when a rule or a sink first reads it."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from agent.context.cgroups import CgroupPaths, has_legacy, unified_mount
from agent.context.container import container_of, container_of_process, users_cgroup
from agent.context.packages import manager_of
from agent.context.process import ProcessCache
from agent.context.procfs import ProcFs
from agent.context.users import Users
from agent.events.actors import HOST, NOT_LIVE, Container, Context, Live, Process
from agent.events.model import Event

_MAX_CONTAINERS = 4_096
_MAX_THREADS = 256
_UNKNOWN = Process(incomplete=True)
_LOOKED_UP = frozenset(("process", "container", "root", "live"))


class _Last(NamedTuple):
    """The process of a thread's last event, and what it was made of."""

    ids: tuple[object, ...]
    names: tuple[bytes, bytes]
    known: Process
    process: Process


class Enricher:
    """Knows processes, users and containers of a host; `root` is its root directory, or a test's."""

    def __init__(
        self, root: Path = Path("/"), proc: ProcFs | None = None, users: Users | None = None
    ) -> None:
        self._proc = proc or ProcFs(root / "proc")
        self._users = users or Users(root)
        self.processes = ProcessCache(self._proc, self._users)
        mount = unified_mount(root / "sys/fs/cgroup")
        self.cgroups = CgroupPaths(mount, self._proc)
        self._users_cgroup = functools.partial(users_cgroup, os.fsencode(mount))
        self._containers: dict[int, Container] = {}  # by id: a path can get another owner
        self._last: dict[int, _Last] = {}  # by thread
        # A service can have a mount namespace of its own; that of process 1 is the host's.
        self._host_ns = self._proc.mount_ns("1") or self._proc.mount_ns("self")
        self._legacy = has_legacy(self._proc.cgroup(1) or b"")

    def start(self) -> None:
        """Read the processes and cgroups that exist. Attach the hooks before, read their events after."""
        self.processes.scan()
        self.cgroups.walk()

    def context(self, event: Event) -> Context:
        """Return the context of an event. Call it exactly once for each event, in the order of the stream."""
        self.processes.apply(event)
        return _LazyContext(self, event)

    def counters(self) -> Mapping[str, int]:
        """Return totals since the start and current sizes, by name."""
        table = self.processes.table
        return {
            **{f"process_{name}": value for name, value in asdict(self.processes.counters).items()},
            "process_evicted_exited": table.evicted.exited,
            "process_evicted_live": table.evicted.live,
            "process_entries": len(table),
            "process_bytes": table.memory,
            **{f"cgroup_{name}": value for name, value in asdict(self.cgroups.counters).items()},
        }

    def process(self, event: Event) -> Process:
        """Return the process of an event: ids from the event, which are exact, the program from the cache.

        Events of a thread have the same object until something of it changes; the caller must not change it.
        """
        entry = self.processes.find(event.pid, event.time_ns)
        known = _UNKNOWN if entry is None else entry.process
        ancestors = () if entry is None else self.processes.ancestors(entry)
        ids = (event.pid, event.ppid, event.comm, event.uid, event.gid, event.auid, event.mount_ns)
        names = self._users.user(event.uid), self._users.group(event.gid)
        last = self._last.get(event.tid)
        unchanged = last and last.known is known and last.process.ancestors is ancestors
        if last and unchanged and last.ids == ids and last.names == names:
            # Only what works for a package manager changes when another process exits.
            manager = last.process.package_manager
            if not manager or manager == self._manager(event, known, ancestors):
                return last.process
        process = self._process(event, known, ancestors, names)
        if len(self._last) >= _MAX_THREADS:
            self._last.clear()
        self._last[event.tid] = _Last(ids, names, known, process)
        return process

    def _process(
        self, event: Event, known: Process, ancestors: tuple[Process, ...], names: tuple[bytes, bytes]
    ) -> Process:
        return Process(
            event.pid,
            event.ppid,
            event.tid,
            event.comm,
            known.exe,
            known.args,
            event.uid,
            event.gid,
            event.auid,
            *names,
            ancestors,
            known.args_truncated,
            self._manager(event, known, ancestors),
            known.incomplete,
        )

    def _manager(self, event: Event, known: Process, ancestors: tuple[Process, ...]) -> bytes:
        """Return the package manager for which a process works: itself or an ancestor that still runs."""
        if event.mount_ns != self._host_ns:
            return b""
        running = (one for one in ancestors if manager_of(one) and self._runs(one, event.time_ns))
        return manager_of(known, running)

    def _runs(self, process: Process, time_ns: int) -> bool:
        """Whether a process runs its program at `time_ns`, and its pid was not reused."""
        entry = self.processes.table.at(process.pid, time_ns)
        return entry is not None and entry.died_ns > time_ns and entry.process.exe == process.exe

    def container(self, event: Event) -> Container:
        """Return the container of an event; HOST for none, and if it can no longer be found out."""
        path = self.cgroups.path(event.cgroup_id, event.pid, event.time_ns)
        container = HOST if path is None else self._container_of(event.cgroup_id, path)
        if container is HOST and (self._legacy or path is None):
            return self._by_process(event)
        return container

    def live(self, event: Event) -> Live:
        """Return what `/proc` shows of the process now; NOT_LIVE if it has exited."""
        return self._proc.live(event.pid, event.time_ns) or NOT_LIVE

    def root(self, event: Event) -> bytes:
        """Return the root directory of the process at the event, b"" if it is unknown.

        If the event does not carry it (a file that the kernel closes at the end of the process), use that of
        the process's last event, or `/proc`.
        """
        if event.root:
            return event.root
        entry = self.processes.find(event.pid, event.time_ns)
        if entry is None or entry.root or not entry.alive:
            return b"" if entry is None else entry.root
        return self._proc.root_of(event.pid)

    def _container_of(self, cgroup_id: int, path: bytes) -> Container:
        container = self._containers.get(cgroup_id)
        if container is None:
            if len(self._containers) >= _MAX_CONTAINERS:
                self._containers.clear()
            container = self._containers[cgroup_id] = container_of(path, self._users_cgroup)
        return container

    def _by_process(self, event: Event) -> Container:
        """On cgroup v1: read the container from `/proc` once for each program, or inherit the parent's."""
        entry = self.processes.find(event.pid, event.time_ns)
        if entry is None:
            return HOST
        if entry.container is None:
            content = self._proc.cgroup(event.pid) if entry.alive else None
            entry.container = entry.inherited if content is None else container_of_process(content)
        return entry.container


class _LazyContext(Context):
    """Looks up a field when it is first read, which must be before the next event is handled."""

    __slots__ = ("_enricher", "_event")

    def __init__(self, enricher: Enricher, event: Event) -> None:
        # The inherited slots stay empty: Python calls __getattr__ only for an empty slot.
        self._enricher = enricher
        self._event = event

    def __getattr__(self, name: str) -> Any:
        if name not in _LOOKED_UP:
            raise AttributeError(name)
        value = getattr(self._enricher, name)(self._event)
        setattr(self, name, value)
        return value
