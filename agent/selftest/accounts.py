"""The ledger of a scenario: the agent's own, held against what the generator made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent import ledger
from agent.events.model import EventType
from agent.ledger import Account, Identity

Accounts = Mapping[EventType, Account]


def since(now: Accounts, before: Accounts) -> dict[EventType, Account]:
    """What was counted between two readings."""
    return {kind: _difference(account, before[kind]) for kind, account in now.items()}


def identities(generated: int, account: Account) -> tuple[Identity, ...]:
    """Every equality that holds when nothing is hidden; the first one that does not names the leak."""
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


def row(generated: int, account: Account) -> dict[str, Any]:
    """The ledger's row in results.json."""
    counts = account._asdict()
    return {
        "generated": generated,
        **{
            name: counts[name]
            for name in ("delivered", "matched", "unmatched", "approver_rejected", "discarded")
        },
        "lost": {name: counts[name] for name in ("ring_full", "oversize", "program_misses", "read_errors")},
    }


def ours(made: int, account: Account) -> Account:
    """Without the misses of other processes.

    Where programs on trampolines can be preempted, the kernel skips them for whoever runs into one, and does
    not tell whom: of its misses ours are those that the generator's own events lack.
    """
    others = account.seen + account.program_misses - made
    return account._replace(
        program_misses=account.program_misses - max(0, min(others, account.program_misses))
    )


def rows(made: Mapping[EventType, int], spent: Accounts) -> dict[str, str]:
    """A ledger in a line for each event type, for people: what was made, and what became of it."""
    return {
        kind.label: ", ".join(
            (f"generated {made.get(kind, 0)}", *(f"{name} {n}" for name, n in account._asdict().items() if n))
        )
        for kind, account in spent.items()
        if made.get(kind) or any(account)
    }


def _difference(now: Account, before: Account) -> Account:
    return Account(*(later - earlier for later, earlier in zip(now, before, strict=True)))
