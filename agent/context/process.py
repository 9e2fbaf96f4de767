"""Which process an event belongs to, exact also for one that has long exited when its event is read.

Two sources meet here. FORK, EXEC and EXIT events tell every change, in order. `/proc` tells what ran before
the agent did, and what was lost. They overlap, because hooks are attached before `/proc` is read, so a change
can be seen in both. That is harmless: a process is a pid and a time of birth, on the same clock on both
sides, and events are replayed onto what the scan found. A pid that was used again is another process, and
both are kept side by side.

An exit is not the end of a process's events: the kernel closes its files afterwards. So an entry outlives its
process by a retention, measured in the stream's own time, however late the agent reads the stream.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.context.procfs import ProcFs
from agent.context.table import FOREVER, MAX_BYTES, MAX_ENTRIES, Entry, ProcessTable
from agent.context.users import Users
from agent.events.actors import Process
from agent.events.model import Event, EventType

MAX_ANCESTORS = 16


@dataclass(slots=True)
class Counters:
    """What the cache did, since the start."""

    scanned: int = 0
    forks: int = 0
    execs: int = 0
    exits: int = 0
    refilled: int = 0  # missing in the table, found in /proc
    unresolved: int = 0  # missing in both: the event itself carries all that is known


class ProcessCache:
    """Processes by pid and time, fed by `scan` and `apply`, asked through `find`."""

    def __init__(
        self, proc: ProcFs, users: Users, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.counters = Counters()
        self.table = ProcessTable(proc.tick_ns, max_entries, max_bytes)
        self._proc = proc
        self._users = users

    def scan(self) -> None:
        """Learns what runs now. Attach the hooks before, feed their events after."""
        for pid in self._proc.pids():
            if pid not in self.table and (entry := self._read(pid, FOREVER)):
                self.table.add(entry)
                self.counters.scanned += 1
        for entry in self.table:
            self.ancestors(entry)

    def apply(self, event: Event) -> None:
        """Takes a FORK, EXEC or EXIT into account; other types and refused calls change nothing."""
        change = _CHANGES.get(event.type)
        if change is not None and event.retval >= 0:
            change(self, event)
            self._settle(event)
            self.table.forget(event.time_ns)

    def _settle(self, event: Event) -> None:
        """Note the root directory: when files are closed by a process's end, the kernel no more knows it."""
        entry = self.table.at(event.pid, event.time_ns)
        if entry is not None and event.root:
            entry.root = event.root

    def find(self, pid: int, time_ns: int) -> Entry | None:
        """The process that had `pid` at `time_ns`, from `/proc` if need be; `None` when nothing knows it."""
        entry = self.table.at(pid, time_ns)
        if entry is None:
            return self._refill(pid, time_ns)
        self.table.touch(pid)
        return entry

    def ancestors(self, entry: Entry) -> tuple[Process, ...]:
        """Who started a process, nearest first, at most `MAX_ANCESTORS`."""
        if entry.ancestors is None:
            entry.ancestors = self._climb(entry.process)
            self.table.charge(entry)
        return entry.ancestors

    def _climb(self, process: Process) -> tuple[Process, ...]:
        chain: list[Process] = []
        seen = {process.pid}
        while process.ppid and process.ppid not in seen and len(chain) < MAX_ANCESTORS:
            seen.add(process.ppid)
            parent = self.find(process.ppid, FOREVER)
            if parent is None:
                break
            process = parent.process
            chain.append(process)
            if parent.ancestors is not None:
                chain.extend(parent.ancestors)
                break
        return tuple(chain[:MAX_ANCESTORS])

    def _refill(self, pid: int, time_ns: int) -> Entry | None:
        entry = self._read(pid, time_ns) if pid not in self.table else None
        if entry is None:
            self.counters.unresolved += 1
            return None
        self.counters.refilled += 1
        self.table.add(entry)
        return entry

    def _read(self, pid: int, time_ns: int) -> Entry | None:
        found = self._proc.read(pid)
        if found is None or found.born_ns > time_ns:  # gone, and its pid perhaps used again
            return None
        process = found.process
        return Entry(self._owned(process, process.uid, process.gid, process.auid), found.born_ns, None)

    def _owned(self, process: Process, uid: int, gid: int, auid: int) -> Process:
        process.uid, process.gid, process.auid = uid, gid, auid
        process.user, process.group = self._users.user(uid), self._users.group(gid)
        return process

    def _fork(self, event: Event) -> None:
        pid = event.new_uid
        if pid == event.pid:  # a thread
            return
        self.counters.forks += 1
        parent = self.find(event.pid, event.time_ns)
        image = parent.process if parent else Process(comm=event.comm)
        child = Process(pid, event.pid, pid, image.comm, image.exe, image.args)
        self._owned(child, event.uid, event.gid, event.auid)
        ancestors = (parent.process, *self.ancestors(parent))[:MAX_ANCESTORS] if parent else None
        known = self.table.at(pid, event.time_ns)
        if known is not None and self.table.is_same(known, event.time_ns):
            # The stream tells from its start what the scan saw the end of: later events bring it there again.
            self._become(known, child, ancestors)
        else:
            known = Entry(child, event.time_ns, ancestors)
            self.table.add(known)
        if parent is not None:
            known.inherited = parent.container or parent.inherited

    def _exec(self, event: Event) -> None:
        self.counters.execs += 1
        process = Process(event.pid, event.ppid, event.pid, event.comm, event.file.path, event.args)
        self._owned(process, event.uid, event.gid, event.auid)
        entry = self.table.at(event.pid, event.time_ns)
        if entry is None:
            self.table.add(Entry(process, event.time_ns, None))
        else:
            self._become(entry, process, entry.ancestors)

    def _become(self, entry: Entry, process: Process, ancestors: tuple[Process, ...] | None) -> None:
        entry.process = process
        entry.ancestors = ancestors
        # A runtime moves a process into its container's cgroup between fork and exec: look again.
        entry.inherited, entry.container = entry.container or entry.inherited, None
        self.table.charge(entry)

    def _exit(self, event: Event) -> None:
        self.counters.exits += 1
        entry = self.table.at(event.pid, event.time_ns)
        if entry is not None and entry.alive:
            self.table.bury(entry, event.time_ns)


_CHANGES = {
    EventType.FORK: ProcessCache._fork,
    EventType.EXEC: ProcessCache._exec,
    EventType.EXIT: ProcessCache._exit,
}
