"""The faults, as data: what is changed where, and which self-tests must notice."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault: in `file`, `old` stands exactly once and becomes `new`; each of `caught_by` must fail."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


MUTANTS = (
    Mutant(
        "approvers-forward-nothing",
        "bpf/approvers.h",
        "return mask && (*mask & slot->bits);",
        "return mask && (*mask & slot->bits) && 0;",
        ("truth.open", "truth.unlink", "truth.rename", "approvers.path"),
    ),
    Mutant(
        "discarder-drops-etc",
        "agent/filters/discarders.py",
        "return all(tree.decide(rule.condition, known.ask) is False for rule in rules)",
        'return known.path == b"/etc" or all(tree.decide(r.condition, known.ask) is False for r in rules)',
        ("discarders.parent",),
    ),
    Mutant(
        "ring-of-4-KiB",
        "bpf/maps.h",
        "__uint(max_entries, 1 << 23); /* bytes; the loader may change it */",
        "__uint(max_entries, 1 << 12);",
        ("loss.steady",),
    ),
)
