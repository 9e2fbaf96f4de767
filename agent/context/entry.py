"""Defines the entry of a process in the process cache, and the memory that it takes."""

from __future__ import annotations

from agent.events.actors import HOST, NO_USER, Container, Process

FOREVER = 1 << 63


class Entry:
    """One process, from `born_ns` to `died_ns` of CLOCK_BOOTTIME; `older` had the same pid before it.

    `process` is immutable and replaced on changes, so that descendants can share it. `ancestors` is None
    until they are looked up. `root` is the root directory at the last event. Of an entry that is `stored`
    only the table replaces them, because it counts their bytes.
    """

    __slots__ = (
        *("ancestors", "born_ns", "container", "died_ns", "inherited", "older", "process", "root", "stored"),
    )

    def __init__(self, process: Process, born_ns: int, ancestors: tuple[Process, ...] | None) -> None:
        self.process = process
        self.born_ns = born_ns
        self.died_ns = FOREVER
        self.ancestors = ancestors
        self.older: Entry | None = None
        self.container: Container | None = None  # only used on cgroup v1
        self.inherited: Container = HOST
        self.root = b""
        self.stored = False

    @property
    def alive(self) -> bool:
        """Whether no exit was reported."""
        return self.died_ns == FOREVER

    @property
    def held(self) -> tuple[Process, ...]:
        """The processes that this entry keeps in memory: its own and its ancestors."""
        return (self.process, *(self.ancestors or ()))

    @property
    def user(self) -> int:
        """The user who pays for the entry; NO_USER is one user, too.

        A user can have 65,536 numbers without a name in namespaces of their own (`/etc/subuid`), and pays for
        these by their login. A container that a login of root started is not root's.
        """
        process = self.process
        return process.uid if process.user else process.login or NO_USER
