"""The agent as its self-test sees it: what a scenario does to it and what it can ask."""

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

NO_PROCESS = 1 << 30  # a process id beyond the kernel's PID_MAX_LIMIT: to watch it is to watch nothing


class Who(NamedTuple):
    """Who did it, as the agent tells it with a match."""

    process: Process
    container: Container


class Judged(NamedTuple):
    """An event that reached user space, the ids of the rules it matched, and who did it, if asked for."""

    event: Event
    rules: tuple[str, ...]
    who: Who | None = None


class Subject(Protocol):
    """A loaded agent: the real one, or `fake.FakeAgent` where there is no kernel to load into."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """The needs of scenarios, other than events, that cannot be met, each with the reason."""

    def facts(self) -> dict[str, Any]:
        """What a load reports: `capabilities`, `hooks`, `coverage` and `limits` of the protocol."""

    def known(self) -> Mapping[str, Any]:
        """What of the facts does not change after the load: all but the hooks' counts, and quickly told."""

    def enforce(self, rules: Mapping[str, str]) -> None:
        """Put rules in force, id -> expression, in place of all before; raises RuleErrors."""

    def watch(self, tgid: int) -> None:
        """See only what this process and its descendants do."""

    def enriched(self) -> AbstractContextManager[None]:
        """Learn of processes and containers meanwhile, as `agent run` does; the rules come afterwards."""

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to drain."""

    def drain(self) -> list[Judged]:
        """Take every record that is there now, without waiting, in the order in which they were made."""

    def accounts(self) -> Accounts:
        """Both sides' counts since the load."""

    def close(self) -> None:
        """Detach everything."""


class Opener(Protocol):
    """Loads another agent beside the one under test."""

    def __call__(self, ring_bytes: int, discarders: int, events: Sequence[EventType]) -> Subject:
        """An agent of the same variant with such a ring and table, that need see no other events."""


class Starter(Protocol):
    """Starts the process that makes the events."""

    def __call__(self, patience_s: float) -> Workload:
        """A generator that waits for its first script."""


class Resident(Protocol):
    """`agent run` as a process of its own; `resident.Resident`."""

    def signal(self, number: Signals) -> None:
        """Send it a signal."""

    def wait(self) -> int:
        """How it ended: its status, or a signal's negative number."""

    def lines(self) -> list[bytes]:
        """What it has written until now; the last line may be cut short."""

    def matches(self, rule: str) -> list[dict[str, Any]]:
        """The matches of a rule, in the order in which it wrote them; raises ValueError for half a line."""

    def close(self) -> None:
        """End it, however it is."""


class Installer(Protocol):
    """Starts an agent of the same variant as a process."""

    def __call__(self, folder: Path, rules: Mapping[str, str], patience_s: float) -> Resident:
        """One that watches, and writes into the folder."""
