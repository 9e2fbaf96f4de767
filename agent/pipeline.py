"""Handles records: decodes, looks up the context, evaluates the rules, reports, inserts discarders."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from agent import ledger
from agent.events.actors import NOTHING, Context
from agent.events.decode import DecodeError, decode
from agent.events.model import PROCESS_EVENTS, Event, EventType
from agent.filters.approvers import Approvers, Mode, derive
from agent.filters.discarders import best
from agent.kernel.loader import Loaded
from agent.kernel.maps import Discard, Discarder
from agent.rules.engine import Ruleset

RETENTION_NS = 60_000_000_000  # maximum age of a discarder, because some changes are not seen

_CHECK_S = 1.0  # how long a discarder may outlive what the kernel changed while it skipped a program
_KEPT_RULESETS = 4  # an event can wait in its system call while new rules are applied

ContextOf = Callable[[Event], Context]
Judged = Callable[[Event, Context, Sequence[str]], None]


class _Epoch(NamedTuple):
    """A rule set, and the serial number in the records that passed its kernel filters."""

    serial: int
    ruleset: Ruleset


def _no_context(_event: Event) -> Context:
    return NOTHING


def wanted(approvers: Mapping[EventType, Approvers]) -> frozenset[EventType]:
    """Return the event types that reach user space; programs for others need not be attached."""
    return frozenset(kind for kind, one in approvers.items() if one.mode is not Mode.REJECT_ALL)


def wanted_by(ruleset: Ruleset) -> frozenset[EventType]:
    """Return the event types that an agent needs which runs these rules and finds processes."""
    return wanted(derive(ruleset)) | set(PROCESS_EVENTS)


class Pipeline:
    """Evaluates the events of loaded programs.

    Calls `judged` for every event with the ids of the rules that it matched, in the order of the stream.
    Calls `context` for every event in the same order; without it process events are not forwarded. `counted`
    is the ledger of an earlier pipeline on the same programs, which this one continues.
    """

    def __init__(
        self,
        loaded: Loaded,
        judged: Judged,
        context: ContextOf | None = None,
        counted: ledger.Ledger | None = None,
    ) -> None:
        self.loaded = loaded
        self.undiscarded = not loaded.discards
        self._judged = judged
        self._context = context or _no_context
        self._forwarded = () if context is None else PROCESS_EVENTS
        self._epochs: deque[_Epoch] = deque(maxlen=_KEPT_RULESETS)
        self._wanted: frozenset[EventType] = frozenset()
        self._surplus = False  # programs may be attached that no rule needs
        self.ledger = counted or ledger.Ledger()
        self._next_check = 0.0

    def enforce(self, ruleset: Ruleset) -> None:
        """Apply rules atomically: each event is evaluated by the rules whose filters it passed."""
        approvers = derive(ruleset)
        for kind in self._forwarded:
            approvers[kind] = Approvers(Mode.FORWARD_ALL)
        self._wanted = wanted(approvers)
        self._surplus = True
        self.loaded.attach(self._wanted, lambda: self._drain(0))
        # The kernel may use the new filters before this returns, but records are not read before that.
        self._epochs.append(_Epoch(self.loaded.set_policy(approvers), ruleset))

    def pump(self, timeout_ms: int) -> int:
        """Wait up to `timeout_ms` for records, handle all available ones, and return their number.

        Of the programs that the rules in force do not need, each call detaches one: that takes a while.
        """
        self._check_discards()
        handled = self._drain(timeout_ms)
        if self._surplus:
            self._surplus = self.loaded.detach_one(self._wanted)
        return handled

    def _drain(self, timeout_ms: int) -> int:
        records = self.loaded.drain()
        if not records and timeout_ms:
            self.loaded.ring.wait(timeout_ms)
            records = self.loaded.drain()
        for record in records:
            self._handle(record)
        return len(records)

    def _check_discards(self) -> None:
        now = time.monotonic()
        if not self.undiscarded and now >= self._next_check:
            self._next_check = now + _CHECK_S
            self.loaded.void_if_skipped()

    def accounts(self) -> dict[EventType, ledger.Account]:
        """Return the accounts of the kernel's and user space's counts since the load."""
        return self.ledger.accounts(self.loaded.tables.counts(), ledger.misses(self.loaded.skipped()))

    def state(self) -> dict[str, Any]:
        """Return the ledger, the losses and the hooks as plain data."""
        accounts = self.accounts()
        return {
            "ledger": {kind.label: account._asdict() for kind, account in accounts.items() if any(account)},
            "lost": sum(account.lost for account in accounts.values()) + self.ledger.undecodable,
            "undecodable": self.ledger.undecodable,
            "lost_by_user": {str(uid): count for uid, count in self.loaded.tables.losses().items()},
            "hooks": [hook._asdict() for hook in self.loaded.hooks],
            "coverage": self.loaded.coverage,
            "limits": self.loaded.limits,
            "capabilities": self.loaded.capabilities,
        }

    def detach(self) -> None:
        """Detach the hooks; `pump` still handles the records in the ring buffer."""
        self.loaded.detach()

    def close(self) -> None:
        """Remove everything from the kernel."""
        self.loaded.close()

    def _handle(self, record: bytes) -> None:
        try:
            event = decode(record)
        except DecodeError:
            self.ledger.undecodable += 1
            return
        epoch = self._epoch(event.serial)
        context = self._context(event)
        matched = epoch.ruleset.evaluate(event, context)
        self.ledger.judge(event.type, bool(matched))
        if not matched and epoch is self._epochs[-1]:
            self._discard(epoch.ruleset, event)
        self._judged(event, context, matched)

    def _epoch(self, serial: int) -> _Epoch:
        for epoch in reversed(self._epochs):
            if epoch.serial == serial:
                return epoch
        return self._epochs[0]

    def _discard(self, ruleset: Ruleset, event: Event) -> None:
        discard = None if self.undiscarded else best(ruleset, event)
        if discard is None:
            return
        file, level = event.file, discard.level
        self.loaded.tables.insert_discard(
            Discarder(file.identities[level], file.mount_id, level),
            Discard(
                discard.types,
                event.time_ns + RETENTION_NS,
                event.serial,
                event.generation,
                file.epochs[level],
            ),
        )
