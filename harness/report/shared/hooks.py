"""Hooks as a reader has them: what a row of results is about, and whether it is in use.

A row's `event` names a hook: a point and a phase of it, such as `open.resolve`. What was tried in vain has a
row as well, with the state that it ended in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from harness.results.model import CellResult, Hook

IN_USE = frozenset({"attached", "fires"})


def point(hook: Hook) -> str:
    """The place in the kernel that a hook is for: `open` of `open.resolve`."""
    return hook.event.partition(".")[0]


def phase(hook: Hook) -> str:
    """When it is passed: `resolve` of `open.resolve`; empty where a row does not say."""
    return hook.event.partition(".")[2]


def in_use(hook: Hook) -> bool:
    """Whether the agent has events from this hook, or would have."""
    return hook.state in IN_USE


def rung_key(hooks: Iterable[Hook]) -> tuple[tuple[str, str], ...]:
    """What makes two rungs the same: types and targets of what is in use, whatever their order."""
    return tuple(sorted({(hook.type, hook.point) for hook in hooks if in_use(hook)}))


def events(cell: CellResult) -> list[str]:
    """The event types that a cell's hooks serve; points that serve several, such as a mount's, name none."""
    return [
        name for name in dict.fromkeys(map(point, cell.hooks)) if cell.coverage.get(name, "none") != "none"
    ]


def limits(told: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """What is not seen, in words, each with the event types of which it is said."""
    found: dict[str, list[str]] = {}
    for event, words in told.items():
        found.setdefault(words, []).append(event)
    return list(found.items())


def used(cell: CellResult) -> list[tuple[str, int]]:
    """How many hooks of each type a cell uses, the commonest first."""
    return Counter(hook.type for hook in cell.hooks if in_use(hook)).most_common()


def surprising(hook: Hook) -> bool:
    """Whether a hook did not do what was predicted of it."""
    predicted = hook.predicted
    return bool(predicted) and predicted != hook.state and not (predicted in IN_USE and in_use(hook))
