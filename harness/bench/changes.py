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
_ALL = "all of these"

CHANGES: tuple[Change, ...] = (
    Change("reject an open at its entry that no rule can want", "6.1", _OPEN, "+4,595", "+1,163"),
    Change("read typed arguments without a call, count once", "6.1", _OPEN, "+1,163", "+1,004"),
    Change(_ALL, "6.1", _OPEN, "÷ none 1.43", "1.09"),
    Change(
        f"{_ALL}; remember directories; keep names, records and operations in places of threads",
        "6.1",
        "create and remove an unwatched file",
        "+33,672",
        "+9,959",
    ),
    Change("the same", "6.1", "rename an unwatched file", "+29,361", "+8,161"),
    Change("the same", "6.1", "open a watched file for writing, and close it", "+18,705", "+14,539"),
    Change("the same, and reads by casts for lockdown (not separated)", "6.1", "start", "4.68 G", "6.66 G"),
    Change(
        "one object for each way to read the kernel's memory, so that no dead code is removed",
        "6.1",
        "start",
        "7.46 G",
        "5.75 G",
    ),
    Change(
        "the same",
        "6.1",
        "load of the programs",
        "4.23 G",
        "2.58 G",
    ),
    Change(
        "no line information, with both ways in one object (not kept: the verifier's log needs it)",
        "6.1",
        "load of the programs",
        "4.23 G",
        "4.06 G",
    ),
    Change(
        "no line information, with one way (not kept)",
        "6.1",
        "load of the programs",
        "2.58 G",
        "2.53 G",
    ),
    Change(
        "push free indexes with fewer steps",
        "6.1",
        "start",
        "5.75 G",
        "5.64 G",
    ),
    Change(
        "give small shared arrays fixed addresses, look up other maps once a program",
        "6.1",
        "start",
        "5.64 G",
        "5.21 G",
    ),
    Change(
        "note at complete_walk() what an open has found, before it may be refused",
        "6.1",
        "open and close an unwatched file",
        "+763",
        "+963",
    ),
    Change(
        "the same",
        "6.1",
        "create and remove an unwatched file",
        "+8,408",
        "+8,579",
    ),
    Change(
        "the same",
        "6.1",
        "open a watched file for writing, and close it",
        "+13,214",
        "+13,744",
    ),
    Change(
        "note where an open that may create looks for its name, in case that the mount refuses it",
        "6.1",
        "create and remove an unwatched file",
        "+8,198",
        "+8,579",
    ),
    Change(
        "read a name at once, typed arguments without a call; keep finds with their operation",
        "6.1",
        "create and remove an unwatched file",
        "+11,665",
        "+9,079",
    ),
    Change(
        "the same",
        "6.1",
        "rename an unwatched file",
        "+11,440",
        "+8,367",
    ),
    Change(
        "hash short names without a slot; clear operations where they lie; read where a lookup is at once",
        "6.1",
        "create and remove an unwatched file",
        "+9,079",
        "+8,579",
    ),
    Change(
        "the same",
        "6.1",
        "rename an unwatched file",
        "+8,367",
        "+7,994",
    ),
    Change(
        "go up directories with one read for each",
        "6.1",
        "open a watched file for writing, and close it",
        "+14,248",
        "+13,744",
    ),
    Change(
        "all since the fixed addresses",
        "6.1",
        "create and remove an unwatched file",
        "÷ none 1.24",
        "1.18",
    ),
    Change(
        "the same",
        "6.1",
        "rename an unwatched file",
        "÷ none 1.37",
        "1.26",
    ),
    Change(
        "the same",
        "6.1",
        "open a watched file for writing, and close it",
        "÷ none 2.34",
        "2.24",
    ),
    Change(
        "the same",
        "6.1",
        "start",
        "5.29 G",
        "5.33 G",
    ),
    Change(
        "the same, with programs at kprobe.multi",
        "7.3",
        "create and remove an unwatched file",
        "+15,338",
        "+13,966",
    ),
    Change(
        "the same, with programs at kprobe.multi",
        "7.3",
        "rename an unwatched file",
        "+13,525",
        "+11,882",
    ),
    Change(
        "the same, with programs at kprobe.multi",
        "7.3",
        "open a watched file for writing, and close it",
        "+18,677",
        "+17,830",
    ),
    Change(
        "the same, with programs at kprobe.multi",
        "7.3",
        "start",
        "6.17 G",
        "6.15 G",
    ),
    Change(
        "check the hash of short names once a program, not at each of its four ends",
        "6.1",
        "start",
        "5.47 G",
        "5.33 G",
    ),
)


def rows() -> list[list[str]]:
    """Return the table of all changes, with its head."""
    head = ["change", "kernel", "measured", "before", "after"]
    return [head, *([*change] for change in CHANGES)]
