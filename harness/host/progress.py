"""What long work reports while it runs: remarks, which are lines, and steps, of which the newest counts.

The library prints nothing. The caller passes a `Progress` and decides what is shown. A step belongs to a
machine (or to the whole run), and replaces the step that was reported before for the same machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

MIB = 1 << 20


class Phase(StrEnum):
    """The phases of a run; the values are the words that users see."""

    CHECK = "checking"
    RESOLVE = "resolving"
    FETCH = "fetching"  # its `done` and `total` are bytes
    IMAGE = "building"
    WAIT = "waiting"  # for a free worker, or for nothing more
    BOOT = "booting"
    DEPLOY = "copying the agent"
    LOAD = "loading"
    TEST = "test"  # its `done` and `total` are tests, and `detail` is the name of the one that runs
    CLOSE = "closing"


@dataclass(frozen=True)
class Step:
    """The current activity of one machine of a run; `machine` is empty for work for the whole run."""

    phase: Phase
    detail: str = ""
    machine: str = ""
    cell: str = ""
    done: int = 0
    total: int = 0  # 0 if it is not known

    def __str__(self) -> str:
        """The step as users see it: `fetching 12 of 36 MiB, kernel 6.1`, or `test 31 of 97, truth.open`."""
        head = f"{self.phase} {self.amount}" if self.amount else f"{self.phase}"
        return f"{head}, {self.detail}" if self.amount and self.detail else f"{head} {self.detail}".rstrip()

    @property
    def amount(self) -> str:
        """The amount done, such as `12 of 36 MiB`; empty if it is not known."""
        if not self.total:
            return ""
        done, total = f"{self.done}", f"{self.total}"
        if self.phase is Phase.FETCH:
            done, total = f"{self.done / MIB:.0f}", f"{self.total / MIB:.0f} MiB"
        return f"{done} of {total}" if self.done else total

    @property
    def where(self) -> str:
        """The cell, or the machine while it has no cell, or "" for the whole run."""
        return self.cell or self.machine

    def begins(self, before: Step | None) -> bool:
        """Whether a new phase begins, which is more than the next amount or test of `before`."""
        return before is None or self._phase != before._phase

    @property
    def _phase(self) -> tuple[str, ...]:
        return self.phase, self.cell, "" if self.phase is Phase.TEST else self.detail

    def to_wire(self) -> tuple[Any, ...]:
        """Return plain data to send to another process."""
        return str(self.phase), self.detail, self.machine, self.cell, self.done, self.total

    @classmethod
    def from_wire(cls, data: tuple[Any, ...]) -> Step:
        """Return the step that `to_wire` was called on."""
        return cls(Phase(data[0]), *data[1:])


Event = str | Step


class Progress(Protocol):
    """Receives remarks and steps. It may be called from any thread, and must not fail."""

    def __call__(self, event: Event, /) -> None:
        """Show or store the event, or ignore it. A remark is one line without its newline."""


def silent(event: Event, /) -> None:
    """Report nothing."""


def of_machine(machine: str, progress: Progress) -> Progress:
    """Return a `Progress` that adds `machine` to each step, for code that does not know its machine."""

    def report(event: Event, /) -> None:
        progress(replace(event, machine=machine) if isinstance(event, Step) else event)

    return report


def bytes_of(step: Step, progress: Progress) -> Callable[[float], None]:
    """Return a function that takes a percentage and reports `step` with that part of its total done."""

    def report(percent: float) -> None:
        progress(replace(step, done=int(step.total * percent / 100)))

    return report
