"""Chooses which programs to load, from the kernel's capabilities and functions; loads nothing itself.

All hooks of an event come from one set of the ladder, because a program finds only the records of programs of
its own kind. A hook that no set can serve is left out, and every attempt is reported with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from agent.events.model import EventType
from agent.hooks import needs, sets
from agent.hooks.points import AFTER_LOST_RETURN

FIRES = "fires"
DRIFTED = "drifted"  # the function exists, but an argument is not where the program reads it
REATTACHES = "reattach"  # a program on a trampoline that was detached can be attached again, from 5.13
SKIPS = "skips"  # not a capability but a flaw: programs on trampolines miss events on a preempted CPU


class Kernel(Protocol):
    """The functions and LSM hooks of the running kernel."""

    def present(self, kind: str, target: str) -> bool:
        """Return whether the kernel has this function, or for `lsm` this hook."""

    def doubtful(self, kind: str, target: str) -> bool:
        """Return whether the kernel may refuse this kind of program at a function that it has."""

    def drift(self, hook: str, kind: str, target: str) -> str:
        """Describe an argument that is not where the hook's program reads it; empty if all are."""


class Chosen(NamedTuple):
    """One program and its target."""

    hook: str
    kind: str
    target: str

    @property
    def program(self) -> str:
        """The program's name in the object."""
        return sets.program(self.hook, self.kind)


class Attempt(NamedTuple):
    """A program that does not work here, and why; `target` is empty if the kernel has none."""

    hook: str
    kind: str
    state: str  # load-fail, attach-fail, silent, lossy, absent, drifted
    reason: str
    target: str = ""


class Plan(NamedTuple):
    """The chosen programs by hook, and the attempts that failed."""

    chosen: dict[str, Chosen]
    attempts: tuple[Attempt, ...]

    @property
    def through_perf(self) -> frozenset[str]:
        """The hooks whose programs are attached through perf."""
        return frozenset(hook for hook, chosen in self.chosen.items() if chosen.kind in sets.PERF)

    @property
    def kinds(self) -> dict[str, str]:
        """The types of the chosen programs, by hook."""
        return {hook: chosen.kind for hook, chosen in self.chosen.items()}


def skips(capabilities: Mapping[str, str]) -> bool:
    """Return whether a preempted program makes this kernel skip others."""
    return capabilities.get(SKIPS) == FIRES


def _loses_returns(chosen: Mapping[str, Chosen]) -> bool:
    """Return whether the kernel loses returns from opens while many of them sleep."""
    returns = chosen.get("open.exit")
    return returns is not None and returns.kind == sets.RETURNS_BY_KPROBE


def _ladder(capabilities: Mapping[str, str]) -> tuple[str, ...]:
    return sets.LADDER_SKIPPING if skips(capabilities) else sets.LADDER


class Chooser:
    """Chooses programs for one kernel, and remembers those that failed to load or to attach."""

    def __init__(self, hookset: str, capabilities: Mapping[str, str], kernel: Kernel) -> None:
        self._sets = _ladder(capabilities) if hookset == sets.AUTO else (hookset,)
        self._capabilities = capabilities
        self._kernel = kernel
        self._refused: dict[tuple[str, str, str], Attempt] = {}

    def refuse(self, attempt: Attempt) -> None:
        """Never choose this program for this target again."""
        self._refused[attempt.hook, attempt.kind, attempt.target] = attempt

    def replan(self, attempt: Attempt, events: Iterable[EventType]) -> Plan:
        """Return the plan for these events without this program."""
        self.refuse(attempt)
        return self.plan(events)

    def plan(self, events: Iterable[EventType]) -> Plan:
        """Return the plan for these events: the minimum of each from one set, then the rest that it wants."""
        chosen: dict[str, Chosen] = {}
        attempts: dict[tuple[str, str], Attempt] = {}
        of_events = [needs.EVENTS[event] for event in events]
        for of_event in of_events:
            self._add(of_event.minimum, chosen, attempts)
        for of_event in of_events:
            for selector in (of_event.wanted, of_event.extra):
                if not self._add(selector, chosen, attempts):
                    for part in needs.parts(selector):
                        self._add(part, chosen, attempts)
        if chosen.keys() >= set(needs.EVENT_INVALIDATORS):
            self._add(needs.UNANNOUNCED, chosen, attempts)
        return Plan(chosen, tuple(dict.fromkeys((*attempts.values(), *self._refused.values()))))

    def _add(
        self, selector: needs.Selector, chosen: dict[str, Chosen], attempts: dict[tuple[str, str], Attempt]
    ) -> bool:
        """Serve a selector from the first set that serves all of it; return whether one does.

        Each part of a best effort is served by itself: the first set would serve it with nothing.
        """
        if not isinstance(selector, str) and selector.rule == "best effort":
            for part in selector.parts:
                self._add(part, chosen, attempts)
            return True
        for hookset in self._sets:
            programs = self._serve(selector, hookset, chosen, attempts)
            if programs is not None:
                chosen |= programs
                return True
        return False

    def _serve(
        self,
        selector: needs.Selector,
        hookset: str,
        chosen: Mapping[str, Chosen],
        attempts: dict[tuple[str, str], Attempt],
    ) -> dict[str, Chosen] | None:
        """Return the programs of a set that serve a selector, beside those chosen; None if it cannot."""
        if isinstance(selector, str):
            return self._serve_hook(selector, hookset, chosen, attempts)
        programs: dict[str, Chosen] = {}
        lacking = False
        for part in selector.parts:
            of_part = self._serve(part, hookset, chosen, attempts)
            programs |= of_part or {}
            lacking |= of_part is None
            if selector.rule == "one of" and of_part is not None:
                return of_part
        return None if selector.rule == "one of" or (selector.rule == "all of" and lacking) else programs

    def _serve_hook(
        self,
        hook: str,
        hookset: str,
        chosen: Mapping[str, Chosen],
        attempts: dict[tuple[str, str], Attempt],
    ) -> dict[str, Chosen] | None:
        if hook in chosen:
            return {}
        if hook == AFTER_LOST_RETURN and not _loses_returns(chosen):
            return None
        kind = sets.kind_of(hook, hookset)
        result = self._choose_target(hook, kind) if kind else None
        if isinstance(result, Chosen):
            return {hook: result}
        if result:
            attempts[hook, kind] = result
        return None

    def _has_probes(self) -> bool:
        """Return whether a kprobe can serve what a trampoline may refuse."""
        return len(self._sets) > 1 and self._capabilities.get("kprobe") == FIRES

    def _choose_target(self, hook: str, kind: str) -> Chosen | Attempt:
        if (state := self._capabilities.get(sets.CAPABILITIES.get(kind, kind), "absent")) != FIRES:
            return Attempt(hook, kind, state, f"{kind} programs: {state}")
        targets = sets.candidates(hook, kind)
        refusal = None
        for target in targets:
            if refused := self._refused.get((hook, kind, target)):
                refusal = refused
                continue
            if not self._kernel.present(kind, target):
                continue
            if self._has_probes() and self._kernel.doubtful(kind, target):
                return Attempt(hook, kind, "absent", f"{target} may have too many arguments for {kind}")
            if reason := self._kernel.drift(hook, kind, target):
                return Attempt(hook, kind, DRIFTED, reason, target)
            return Chosen(hook, kind, target)
        return refusal or Attempt(hook, kind, "absent", f"this kernel has no usable {' or '.join(targets)}")
