"""Which programs to load: from what a kernel can and has, without touching it.

An event's hooks come from one rung of the ladder, so that what one program notes another of its kind finds.
What no rung can serve is left out, with the reasons of every attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from agent import hooks
from agent.events import EventType

FIRES = "fires"
SKIPS = "skips"  # a capability that is none: programs on trampolines miss what happens on a preempted CPU


class Kernel(Protocol):
    """What the running kernel has to attach to."""

    def present(self, kind: str, target: str) -> bool:
        """Whether it has this function, or for `lsm` this hook."""

    def doubtful(self, kind: str, target: str) -> bool:
        """Whether it has it but may refuse this kind of program there."""


class Chosen(NamedTuple):
    """One program and what it will be attached to."""

    hook: str
    kind: str
    target: str

    @property
    def program(self) -> str:
        """Its name in the object."""
        return hooks.program(self.hook, self.kind)


class Attempt(NamedTuple):
    """A program that cannot be had, and why; `target` is empty if there is nothing to attach it to."""

    hook: str
    kind: str
    state: str  # load-fail, attach-fail, silent, absent
    reason: str
    target: str = ""


class Plan(NamedTuple):
    """Programs by hook, and what was tried in vain."""

    chosen: dict[str, Chosen]
    attempts: tuple[Attempt, ...]


def _ladder(capabilities: Mapping[str, str]) -> tuple[str, ...]:
    return hooks.LADDER_SKIPPING if capabilities.get(SKIPS) == FIRES else hooks.LADDER


class Chooser:
    """Chooses for one kernel; `refused` grows as programs fail to load or to attach."""

    def __init__(self, hookset: str, capabilities: Mapping[str, str], kernel: Kernel) -> None:
        self._rungs = _ladder(capabilities) if hookset == hooks.AUTO else (hookset,)
        self._capabilities = capabilities
        self._kernel = kernel
        self._refused: dict[tuple[str, str, str], Attempt] = {}

    def refuse(self, attempt: Attempt) -> None:
        """Never choose this program for this target again."""
        self._refused[attempt.hook, attempt.kind, attempt.target] = attempt

    def replan(self, attempt: Attempt, events: Iterable[EventType]) -> Plan:
        """The programs for these events without this one."""
        self.refuse(attempt)
        return self.plan(events)

    def plan(self, events: Iterable[EventType]) -> Plan:
        """The programs for these events: the minimum of each on one rung, then whatever else it wants."""
        chosen: dict[str, Chosen] = {}
        attempts: dict[tuple[str, str], Attempt] = {}
        needs = [hooks.EVENTS[event] for event in events]
        for need in needs:
            self._add(hooks.names(need.minimum), chosen, attempts)
        for need in needs:
            for name in hooks.names(need.wanted) + hooks.names(need.extra):
                self._add((name,), chosen, attempts)
        return Plan(chosen, (*attempts.values(), *self._refused.values()))

    def _add(
        self,
        names: tuple[str, ...],
        chosen: dict[str, Chosen],
        attempts: dict[tuple[str, str], Attempt],
    ) -> None:
        for rung in self._rungs:
            found = [self._find(name, hooks.kind_of(name, rung)) for name in names if name not in chosen]
            attempts |= {(one.hook, one.kind): one for one in found if isinstance(one, Attempt)}
            usable = [one for one in found if isinstance(one, Chosen)]
            if len(usable) == len(found):
                chosen |= {one.hook: one for one in usable}
                return

    def _find(self, hook: str, kind: str) -> Chosen | Attempt:
        if (state := self._capabilities.get(hooks.CAPABILITIES.get(kind, kind), "absent")) != FIRES:
            return Attempt(hook, kind, state, f"{kind} programs: {state}")
        targets = hooks.candidates(hook, kind)
        for target in targets:
            if (hook, kind, target) in self._refused or not self._kernel.present(kind, target):
                continue
            if len(self._rungs) > 1 and self._kernel.doubtful(kind, target):
                return Attempt(hook, kind, "absent", f"{target} may have too many arguments for {kind}")
            return Chosen(hook, kind, target)
        return Attempt(hook, kind, "absent", f"this kernel has no usable {' or '.join(targets)}")
