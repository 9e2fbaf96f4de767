"""Records what changes of the agent did to its cost, also those that changed nothing."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """One change: what was measured before and after it, beside which workload, on which kernel."""

    about: str
    kernel: str
    measured: str
    before: str
    after: str


_OPEN = "open and close an unwatched file"

CHANGES: tuple[Change, ...] = (
    Change("reject an open at its entry that no rule can want", "6.1", _OPEN, "+4,595", "+1,163"),
    Change(
        "remember directories, keep names in places of threads",
        "6.1",
        "create and remove an unwatched file: all programs, by their statistics",
        "not measured",
        "12,457",
    ),
)


def rows() -> list[list[str]]:
    """Return the table of all changes, with its head."""
    head = ["change", "kernel", "measured", "before", "after"]
    return [head, *([*change] for change in CHANGES)]
