"""Finds the process of an event, also if it exited before the agent handles the event.

There are two sources. FORK, EXEC and EXIT events report every change, in order. `/proc` has the processes
that ran before the agent started, and those whose events were lost. The sources overlap, because hooks are
attached before `/proc` is read, so a change can appear in both. That is harmless: a process is identified by
pid and time of birth, on the same clock in both, and events are applied to the entries of the scan. A reused
pid is another process, and the table holds both.

A process has events after its exit, because the kernel closes its files afterwards. An entry is therefore
kept for a retention after the exit, measured in event time, so that a late agent finds it too.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.context.entry import FOREVER, Entry
from agent.context.procfs import ARGS_COUNT, ProcFs
from agent.context.table import MAX_BYTES, MAX_ENTRIES, ProcessTable
from agent.context.users import Users
from agent.events.actors import NO_USER, Process
from agent.events.model import Event, EventType

MAX_ANCESTORS = 16


@dataclass(slots=True)
class Counters:
    """Totals since the start."""

    scanned: int = 0
    forks: int = 0
    execs: int = 0
    exits: int = 0
    refilled: int = 0  # not in the table, read from /proc
    unresolved: int = 0  # in neither: only the event's own fields are known


class ProcessCache:
    """A cache of processes by pid and time: `scan` and `apply` fill it, `find` looks up."""

    def __init__(
        self, proc: ProcFs, users: Users, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        self.counters = Counters()
        self.table = ProcessTable(proc.tick_ns, max_entries, max_bytes)
        self._proc = proc
        self._users = users

    def scan(self) -> None:
        """Read the running processes. Attach the hooks before, apply their events after."""
        for pid in self._proc.pids():
            if pid not in self.table and (entry := self._read(pid, FOREVER)):
                self.table.add(entry)
                self.counters.scanned += 1
        for entry in self.table:
            self.ancestors(entry)

    def apply(self, event: Event) -> None:
        """Apply a FORK, EXEC or EXIT event; other types and failed calls change nothing."""
        change = _CHANGES.get(event.type)
        if change is not None and event.retval >= 0:
            change(self, event)
            self._settle(event)
            self.table.forget(event.time_ns)

    def _settle(self, event: Event) -> None:
        """Store the root directory: the kernel cannot report it when it closes files at the exit."""
        entry = self.table.at(event.pid, event.time_ns)
        if entry is not None and event.root and event.root != entry.root:
            self.table.change(entry, entry.process, entry.ancestors, event.root)

    def find(self, pid: int, time_ns: int) -> Entry | None:
        """Return the process that had `pid` at `time_ns`, from `/proc` if necessary; None if unknown."""
        entry = self.table.at(pid, time_ns)
        if entry is None:
            return self._refill(pid, time_ns)
        self.table.touch(entry)
        return entry

    def ancestors(self, entry: Entry) -> tuple[Process, ...]:
        """Return the ancestors of a process, nearest first, at most `MAX_ANCESTORS`."""
        if entry.ancestors is None:
            ancestors = self._climb(entry.process)
            self.table.change(entry, entry.process, ancestors, entry.root)
            return ancestors
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
        entry.process.incomplete = True
        self.table.add(entry)
        return entry

    def _read(self, pid: int, time_ns: int) -> Entry | None:
        found = self._proc.read(pid)
        if found is None or found.born_ns > time_ns:  # it exited, and its pid may be reused
            return None
        process = found.process
        return Entry(self._owned(process, process.uid, process.gid, process.auid, None), found.born_ns, None)

    def _owned(self, process: Process, uid: int, gid: int, auid: int, before: Process | None) -> Process:
        """Set the users of a process, which was `before` or was forked by it."""
        process.uid, process.gid, process.auid = uid, gid, auid
        if before is not None:
            # A process that root has made may drop its user without an event: it must still be root.
            by_root = before.uid == uid == 0
            unset = before.login == before.auid == NO_USER
            process.login = auid if by_root and unset else before.login
        process.user, process.group = self._users.user(uid), self._users.group(gid)
        return process

    def _fork(self, event: Event) -> None:
        pid = event.child_pid
        if pid == event.pid:  # a thread
            return
        self.counters.forks += 1
        parent = self.find(event.pid, event.time_ns)
        image = parent.process if parent else Process(comm=event.comm)
        child = Process(pid, event.pid, pid, image.comm, image.exe, image.args)
        child.args_truncated = image.args_truncated
        child.incomplete = parent is None or image.incomplete
        self._owned(child, event.uid, event.gid, event.auid, parent.process if parent else None)
        ancestors = (parent.process, *self.ancestors(parent))[:MAX_ANCESTORS] if parent else None
        known = self.table.at(pid, event.time_ns)
        if known is not None and self.table.is_same(known, event.time_ns):
            # The scan has read a later state of this process; the following events lead there again.
            self._become(known, child, ancestors)
        else:
            known = Entry(child, event.time_ns, ancestors)
            self.table.add(known)
        if parent is not None:
            known.inherited = parent.container or parent.inherited

    def _exec(self, event: Event) -> None:
        self.counters.execs += 1
        args = event.args[:ARGS_COUNT]
        process = Process(event.pid, event.ppid, event.pid, event.comm, event.file.path, args)
        process.args_truncated = event.args_truncated or len(event.args) > ARGS_COUNT
        entry = self.table.at(event.pid, event.time_ns)
        self._owned(process, event.uid, event.gid, event.auid, entry.process if entry else None)
        process.incomplete = entry is None or entry.process.incomplete
        if entry is None:
            self.table.add(Entry(process, event.time_ns, None))
        else:
            self._become(entry, process, entry.ancestors)

    def _become(self, entry: Entry, process: Process, ancestors: tuple[Process, ...] | None) -> None:
        self.table.change(entry, process, ancestors, entry.root)
        # A runtime moves a process to its container's cgroup between fork and exec: look it up again.
        entry.inherited, entry.container = entry.container or entry.inherited, None

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
