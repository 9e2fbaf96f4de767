"""Computes the ledger of a scenario: the agent's counters, compared with the generated events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent import ledger
from agent.events.model import EventType
from agent.ledger import Account, Identity

Accounts = Mapping[EventType, Account]

FEW = 7  # events of which the kernel may skip all; of more it skips up to half (agent/hooks/sets.py)


def since(now: Accounts, before: Accounts) -> dict[EventType, Account]:
    """Return what was counted between two readings."""
    return {kind: _difference(account, before[kind]) for kind, account in now.items()}


def identities(generated: int, account: Account) -> tuple[Identity, ...]:
    """Return the equalities that must hold; the first one that does not shows where events were lost."""
    a = account
    return (
        Identity("generated = seen + program misses", generated, a.seen + a.program_misses),
        *ledger.identities(account),
        Identity(
            "generated = delivered + rejected + discarded + lost",
            generated,
            a.delivered + a.approver_rejected + a.discarded + a.lost,
        ),
    )


def row(generated: int, account: Account, others: int) -> dict[str, Any]:
    """Return the ledger's row in results.json; `others` are the misses that are not the generator's."""
    counts = account._asdict()
    return {
        "generated": generated,
        **{
            name: counts[name]
            for name in ("delivered", "matched", "unmatched", "approver_rejected", "discarded")
        },
        "lost": {name: counts[name] for name in ("ring_full", "oversize", "program_misses", "read_errors")},
        "misses_of_others": others,
    }


def misses_of_others(generated: int, account: Account, skipped: int) -> int:
    """Return how many of an account's misses are not the generator's, at most the `skipped` programs.

    Where the kernel skips programs because one of them was preempted, it does not say for which process. The
    generator's own misses are the events that it generated and the kernel stage did not see.
    """
    return min(max(0, account.seen + account.program_misses - generated), skipped)


def most_skipped(generated: int) -> int:
    """Return how many events of the generator the kernel may skip at most.

    More are hardly the kernel's: then the misses of other processes hide events that were lost uncounted.
    """
    return max(FEW, generated // 2)


def rows(generated: Mapping[EventType, int], counted: Accounts) -> dict[str, str]:
    """Return the ledger as a text for each event type: generated events, and all counters that are not 0."""
    texts = {}
    for kind, account in counted.items():
        number = generated.get(kind, 0)
        counters = [f"{name} {count}" for name, count in account._asdict().items() if count]
        if number or counters:
            texts[kind.label] = ", ".join((f"generated {number}", *counters))
    return texts


def _difference(now: Account, before: Account) -> Account:
    return Account(*(later - earlier for later, earlier in zip(now, before, strict=True)))
