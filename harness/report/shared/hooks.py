"""Reads the hook rows of results: the point and phase of a hook, and whether it is in use.

The `event` of a row names a point and a phase, such as `open.resolve`. A hook that the agent tried and could
not use has a row too, with its state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from harness.results.model import CellResult, Hook

IN_USE = frozenset({"attached", "fires"})


def point(hook: Hook) -> str:
    """Return the point in the kernel: `open` of `open.resolve`."""
    return hook.event.partition(".")[0]


def phase(hook: Hook) -> str:
    """Return the phase: `resolve` of `open.resolve`; empty if the row has none."""
    return hook.event.partition(".")[2]


def in_use(hook: Hook) -> bool:
    """Return whether the hook is attached, so that the agent gets its events."""
    return hook.state in IN_USE


def hooks_in_use(hooks: Iterable[Hook]) -> tuple[tuple[str, str], ...]:
    """Return the types and targets of the hooks in use, sorted; empty if no hook is in use."""
    return tuple(sorted({(hook.type, hook.point) for hook in hooks if in_use(hook)}))


def events(cell: CellResult) -> list[str]:
    """Return the event types that a cell sees, whole or in part."""
    return [event for event, state in cell.coverage.items() if state != "none"]


def limits(texts: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Group the descriptions of what is not seen: each text with its event types."""
    grouped: dict[str, list[str]] = {}
    for event, text in texts.items():
        grouped.setdefault(text, []).append(event)
    return list(grouped.items())


def used(cell: CellResult) -> list[tuple[str, int]]:
    """Return how many hooks of each type a cell uses, the most frequent first."""
    return Counter(hook.type for hook in cell.hooks if in_use(hook)).most_common()


def surprising(hook: Hook) -> bool:
    """Return whether a hook's state differs from the predicted state."""
    predicted = hook.predicted
    return bool(predicted) and predicted != hook.state and not (predicted in IN_USE and in_use(hook))
