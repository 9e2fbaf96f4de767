"""Shrinks a failure: fewer programs, operations, rules. Each trial is one play."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from tests.campaigns.law.case import Case
from tests.campaigns.law.programs import SETUP, Program
from tests.campaigns.law.steps import flat, text, without

Fails = Callable[[Case], bool]
Item = TypeVar("Item")


class Budget:
    """The remaining trials and time."""

    def __init__(self, trials: int, seconds: float) -> None:
        self.trials = trials
        self.until = time.monotonic() + seconds

    def spend(self) -> bool:
        """Return whether another trial is left, and count it."""
        self.trials -= 1
        return self.trials >= 0 and time.monotonic() < self.until


def ddmin(items: Sequence[Item], fails: Callable[[Sequence[Item]], bool]) -> list[Item]:
    """Return a part of the items that still fails and of which no chunk can be removed (Zeller)."""
    kept, chunk = list(items), max(1, len(items) // 2)
    while kept:
        shorter = False
        at = 0
        while at < len(kept):
            trial = kept[:at] + kept[at + chunk :]
            if fails(trial):
                kept, shorter = trial, True
            else:
                at += chunk
        if chunk == 1 and not shorter:
            break
        chunk = max(1, chunk // 2)
    return kept


def shrink(case: Case, fails: Fails, culprit: str, rule: str, budget: Budget) -> Case:
    """A smaller case that fails; the case itself if it does not fail again, or the budget is spent.

    `culprit` and `rule` are those of the difference. What most failures need is tried first: these two alone,
    and of the set-up what the program names.
    """

    def tried(trial: Case) -> bool:
        return budget.spend() and fails(trial)

    small = _likely(case, culprit, rule)
    if small is not None and tried(small):
        return _steps(small, tried)
    case = _programs(case, tried, culprit)
    if case.reload is not None and tried(same := replace(case, reload=None)):
        case = same
    case = _rules(case, tried)
    case = _steps(case, tried)
    return _rules(case, tried)


def _likely(case: Case, culprit: str, rule: str) -> Case | None:
    alone = next((one for one in case.programs if one.name == culprit), None)
    in_force = case.reload if case.reload and alone in case.programs[case.cut :] else case.rules
    rules = tuple(one for one in in_force if one.id == rule)
    if alone is None or alone.makes or not rules:
        return None
    names = {text(one) for step in alone.steps for row in step.lines() for one in row.split() if "/" in one}
    needed = tuple(
        step
        for one in case.programs[:1]
        for step in one.steps
        if any(_above(text(word), name) for word in step.words if "/" in word for name in names)
    )
    return replace(case, programs=(Program(SETUP, needed), alone), rules=rules, reload=None)


def _above(path: str, name: str) -> bool:
    """Return whether a path is that of the name, or of a directory above or below it."""
    return f"{name}/".startswith(f"{path}/") or path.startswith(f"{name}/") or path in name


def _programs(case: Case, tried: Fails, culprit: str) -> Case:
    last = next(
        (number for number, one in enumerate(case.programs) if one.name == culprit), len(case.programs)
    )
    first, alone = list(case.programs[:1]), list(case.programs[last : last + 1])
    if alone and tried(small := case.having([*first, *alone])):
        return small
    kept = ddmin(case.programs[1:last], lambda some: tried(case.having([*first, *some, *alone])))
    return case.having([*first, *kept, *alone])


def _rules(case: Case, tried: Fails) -> Case:
    kept = ddmin(case.rules, lambda some: tried(replace(case, rules=tuple(some))))
    case = replace(case, rules=tuple(kept))
    if case.reload:
        kept = ddmin(case.reload, lambda some: tried(replace(case, reload=tuple(some))))
        case = replace(case, reload=tuple(kept))
    return case


def _steps(case: Case, tried: Fails) -> Case:
    """Return the lines of programs, the last program's first: most lines of a set-up are not needed."""
    places = [(number, place) for number, one in enumerate(case.programs) for place in flat(one.steps)]

    def having(kept: Sequence[tuple[int, tuple[int, ...]]]) -> Case:
        gone = set(places) - set(kept)
        programs = [
            Program(one.name, without(one.steps, frozenset(place for at, place in gone if at == number)))
            for number, one in enumerate(case.programs)
        ]
        return replace(case, programs=tuple(programs))

    kept = ddmin(places, lambda some: tried(having(some)))
    small = having(kept)
    programs = [one for one in small.programs if one.steps]
    return (
        small.having(programs)
        if len(programs) < len(small.programs) and tried(small.having(programs))
        else small
    )
