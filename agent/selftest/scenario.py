"""Defines what the catalogue says of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.hooks import coverage

NIGHTLY = "nightly"  # repeats another scenario for longer, faster or on more CPUs; left out by default
AUTO = "auto"  # depends on no hook set, or tests all: planned where the hook set is auto, without variants
SHORT = "short"  # what differs between kernels; all that runs on a kernel between two that run everything
SMOKE = "smoke"  # the dozen scenarios that touch each part of the agent; `make test` runs them in guests

# Needs, and the text in the limits of an event type that shows that they are not met.
_LIMITS = {
    "resolved": coverage.ARGUMENTS_ONLY,
    "refusals": coverage.FAILED_LOOKUP,
    "unhidden": coverage.PREEMPTED,
}


class Unseen(NamedTuple):
    """An event type that an agent does not see as a scenario needs it; `limit` is empty if not at all."""

    event: str
    limit: str


class Scenario(NamedTuple):
    """One promise of the agent, and the conditions for testing it.

    `needs` are facts about a kernel. A scenario is skipped on a kernel without one of them:

        event:TYPE   the agent sees events of this type
        kernel       a real kernel, not the fake of the unit tests
        resolved     the type is not seen only by the arguments of its system calls
        refusals     operations that fail in the lookup of the name are seen
        unhidden     a preempted program does not hide the events of other processes

    `cost` is the expected duration in seconds on one emulated CPU. A `host_bound` scenario needs a faster CPU
    than an emulated one may be; a run that could not test it reports that, and does not fail. `ring_bytes`
    and `discarders` load an agent of its own, with a ring buffer and a discarder table of these sizes.
    """

    name: str
    proves: str
    needs: tuple[str, ...] = ()
    cost: float = 1.0
    tags: tuple[str, ...] = ()
    host_bound: bool = False
    ring_bytes: int = 0
    discarders: int = 0

    @property
    def family(self) -> str:
        """The part of the name before the dot, which is also the name of the module with the code."""
        return self.name.partition(".")[0]

    @property
    def events(self) -> tuple[str, ...]:
        """The labels of the event types that the scenario needs."""
        return tuple(need.removeprefix("event:") for need in self.needs if need.startswith("event:"))

    def unseen(self, levels: Mapping[str, str], limits: Mapping[str, str]) -> Unseen | None:
        """Return the first event type that an agent with this coverage does not see as needed, or None."""
        for event in self.events:
            limit = limits.get(event, "")
            if levels.get(event, "none") == "none":
                return Unseen(event, "")
            if any(need in self.needs and text in limit for need, text in _LIMITS.items()):
                return Unseen(event, limit)
        return None
