"""Which programs to load: from what a kernel can and has, without touching it.

An event's hooks come from one rung of the ladder, so that what one program notes another of its kind finds.
What no rung can serve is left out, with the reasons of every attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from agent.events.model import EventType
from agent.hooks import points

FIRES = "fires"
DRIFTED = "drifted"  # the function is there, and not as the program would read it
SKIPS = "skips"  # a capability that is none: programs on trampolines miss what happens on a preempted CPU


class Kernel(Protocol):
    """What the running kernel has to attach to."""

    def present(self, kind: str, target: str) -> bool:
        """Whether it has this function, or for `lsm` this hook."""

    def doubtful(self, kind: str, target: str) -> bool:
        """Whether it has it but may refuse this kind of program there."""

    def drift(self, hook: str, kind: str, target: str) -> str:
        """Which of its arguments lies elsewhere than the hook's program reads it; empty if none does."""


class Chosen(NamedTuple):
    """One program and what it will be attached to."""

    hook: str
    kind: str
    target: str

    @property
    def program(self) -> str:
        """Its name in the object."""
        return points.program(self.hook, self.kind)


class Attempt(NamedTuple):
    """A program that cannot be had, and why; `target` is empty if there is nothing to attach it to."""

    hook: str
    kind: str
    state: str  # load-fail, attach-fail, silent, absent, drifted
    reason: str
    target: str = ""


class Plan(NamedTuple):
    """Programs by hook, and what was tried in vain."""

    chosen: dict[str, Chosen]
    attempts: tuple[Attempt, ...]


def _ladder(capabilities: Mapping[str, str]) -> tuple[str, ...]:
    return points.LADDER_SKIPPING if capabilities.get(SKIPS) == FIRES else points.LADDER


class Chooser:
    """Chooses for one kernel; `refused` grows as programs fail to load or to attach."""

    def __init__(self, hookset: str, capabilities: Mapping[str, str], kernel: Kernel) -> None:
        self._rungs = _ladder(capabilities) if hookset == points.AUTO else (hookset,)
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
        needs = [points.EVENTS[event] for event in events]
        for need in needs:
            self._add(need.minimum, chosen, attempts)
        for need in needs:
            for selector in (need.wanted, need.extra):
                if not self._add(selector, chosen, attempts):
                    for part in points.parts(selector):
                        self._add(part, chosen, attempts)
        return Plan(chosen, tuple(dict.fromkeys((*attempts.values(), *self._refused.values()))))

    def _add(
        self, selector: points.Selector, chosen: dict[str, Chosen], attempts: dict[tuple[str, str], Attempt]
    ) -> bool:
        """Serve a selector on the first rung that can, whole or not at all; whether it is served."""
        for rung in self._rungs:
            served = self._serve(selector, rung, chosen, attempts)
            if served is not None:
                chosen |= served
                return True
        return False

    def _serve(
        self,
        selector: points.Selector,
        rung: str,
        chosen: Mapping[str, Chosen],
        attempts: dict[tuple[str, str], Attempt],
    ) -> dict[str, Chosen] | None:
        """The programs by which one rung serves a selector, beside those chosen; None if it cannot."""
        if isinstance(selector, str):
            return self._serve_hook(selector, rung, chosen, attempts)
        served: dict[str, Chosen] = {}
        lacking = False
        for part in selector.parts:
            found = self._serve(part, rung, chosen, attempts)
            served |= found or {}
            lacking |= found is None
            if selector.rule == "one of" and found is not None:
                return found
        return None if selector.rule == "one of" or (selector.rule == "all of" and lacking) else served

    def _serve_hook(
        self,
        hook: str,
        rung: str,
        chosen: Mapping[str, Chosen],
        attempts: dict[tuple[str, str], Attempt],
    ) -> dict[str, Chosen] | None:
        if hook in chosen:
            return {}
        kind = points.kind_of(hook, rung)
        found = self._find(hook, kind) if kind else None
        if isinstance(found, Chosen):
            return {hook: found}
        if found:
            attempts[hook, kind] = found
        return None

    def _find(self, hook: str, kind: str) -> Chosen | Attempt:
        if (state := self._capabilities.get(points.CAPABILITIES.get(kind, kind), "absent")) != FIRES:
            return Attempt(hook, kind, state, f"{kind} programs: {state}")
        targets = points.candidates(hook, kind)
        known = None
        for target in targets:
            if refused := self._refused.get((hook, kind, target)):
                known = refused
                continue
            if not self._kernel.present(kind, target):
                continue
            if len(self._rungs) > 1 and self._kernel.doubtful(kind, target):
                return Attempt(hook, kind, "absent", f"{target} may have too many arguments for {kind}")
            if words := self._kernel.drift(hook, kind, target):
                return Attempt(hook, kind, DRIFTED, words, target)
            return Chosen(hook, kind, target)
        return known or Attempt(hook, kind, "absent", f"this kernel has no usable {' or '.join(targets)}")
