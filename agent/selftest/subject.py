"""Defines the interface of the agent under test, and of the helpers that start agents and generators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple, Protocol

from agent.events.actors import Container, Process
from agent.events.model import Event, EventType
from agent.selftest.accounts import Accounts
from agent.selftest.workload import Workload

NO_PROCESS = 1 << 30  # a process id beyond the kernel's PID_MAX_LIMIT, which no process has


class Actor(NamedTuple):
    """The process and container that the agent reports with a match."""

    process: Process
    container: Container


class Judged(NamedTuple):
    """An event that reached user space, the ids of the rules that it matched, and its actor if requested."""

    event: Event
    rules: tuple[str, ...]
    actor: Actor | None = None


class Subject(Protocol):
    """A loaded agent: the real one (`loaded.LoadedAgent`), or `fake.FakeAgent` in unit tests."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """The needs of scenarios, other than events, that the agent cannot meet, each with the reason."""

    def facts(self) -> dict[str, Any]:
        """Return `capabilities`, `hooks`, `coverage` and `limits` of the protocol."""

    def known(self) -> Mapping[str, Any]:
        """Return the facts as of the load, which is fast: only the hooks' counters change afterwards."""

    def enforce(self, rules: Mapping[str, str]) -> None:
        """Replace all rules by these (id -> expression). Raises RuleErrors."""

    def watch(self, tgid: int) -> None:
        """Report only events of this process and its descendants."""

    def enriched(self) -> AbstractContextManager[None]:
        """Within this context, add the actor to events, as `agent run` does. Set the rules in it."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while records are waiting."""

    def drain(self) -> list[Judged]:
        """Return all waiting records in the order of their creation, without waiting for more."""

    def accounts(self) -> Accounts:
        """Return the counters of kernel stage and agent since the load."""

    def skipped(self) -> Mapping[EventType, int]:
        """Return the misses since the load because the kernel skipped a program, for whatever process."""

    def close(self) -> None:
        """Detach everything."""


class Opener(Protocol):
    """Loads another agent beside the one under test."""

    def __call__(self, ring_bytes: int, discarders: int, events: Sequence[EventType]) -> Subject:
        """Load an agent of the same variant with these sizes, which must see these event types."""


class Starter(Protocol):
    """Starts the generator process."""

    def __call__(self, patience_s: float) -> Workload:
        """Start a generator, which waits for its first script."""


class Resident(Protocol):
    """A process of `agent run`; see `resident.Resident`."""

    def signal(self, number: Signals) -> None:
        """Send the agent a signal."""

    def wait(self) -> int:
        """Return the exit status, or the negative number of a signal."""

    def reload(self, rules: Mapping[str, str]) -> None:
        """Replace its rules; return once it has applied them."""

    def attached(self) -> frozenset[str]:
        """Return the hooks whose programs it has attached."""

    def lost(self) -> int:
        """Return how many events it has lost since its start, of all types."""

    def lines(self) -> list[bytes]:
        """Return the lines written until now; the last one may be incomplete."""

    def matches(self, rule: str) -> list[dict[str, Any]]:
        """Return the written matches of a rule, in order. Raises ValueError for an incomplete line."""

    def close(self) -> None:
        """Kill the agent if it still runs."""


class Installer(Protocol):
    """Starts an agent of the same variant as a process."""

    def __call__(
        self, folder: Path, rules: Mapping[str, str], patience_s: float, under: Sequence[str] = ()
    ) -> Resident:
        """Start an agent that writes into the folder, and wait until it watches; a command may start it."""
