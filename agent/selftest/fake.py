"""A fake agent for tests without BPF: rules, filters and generator are real, the kernel stage is a model.

Unit tests run the scenarios with it. It receives the events of a script when the script ends.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from agent.events.model import Event, EventType
from agent.filters.approvers import derive
from agent.filters.discarders import learn
from agent.filters.model import Kernel
from agent.ledger import Account
from agent.rules.load import loads
from agent.selftest.fake_events import events
from agent.selftest.subject import Judged
from agent.selftest.workload import Outcome, Workload

RECORD_BYTES = 400  # of an event with a path of usual length
RING_BYTES = 1 << 23
_RENAMING = (EventType.UNLINK, EventType.RMDIR, EventType.RENAME, EventType.LINK)


class FakeAgent:
    """A subject whose kernel is `agent.filters.model`; `feed` replaces the hooks."""

    lacks: Mapping[str, str] = {"kernel": "the model has no mounts, inodes or threads"}

    def __init__(self, ring_bytes: int = RING_BYTES) -> None:
        self._ruleset = loads("rules: []")
        self._kernel = Kernel(derive(self._ruleset))
        self._room = ring_bytes // RECORD_BYTES
        self._scope = 0
        self._ring: list[Event] = []
        self._counts: Counter[tuple[EventType, str]] = Counter()
        self._never = os.eventfd(0)  # never readable: all events are already here

    def facts(self) -> dict[str, Any]:
        """Return full coverage of all event types."""
        hooks = tuple(
            {
                "event": f"{kind.label}.exit",
                "point": "model",
                "program": "model",
                "type": "model",
                "state": "attached",
            }
            for kind in EventType
        )
        coverage = {kind.label: "full" for kind in EventType}
        return {
            "capabilities": {"model": "fires"},
            "hooks": hooks,
            "coverage": coverage,
            "limits": {},
        }

    def known(self) -> Mapping[str, Any]:
        """See `Subject.known`."""
        return self.facts()

    def enforce(self, rules: Mapping[str, str]) -> None:
        """See `Subject.enforce`."""
        entries = [{"id": name, "expression": expression} for name, expression in rules.items()]
        self._ruleset = loads(json.dumps({"rules": entries}))
        self._kernel.reload(derive(self._ruleset))

    def watch(self, tgid: int) -> None:
        """See `Subject.watch`; only the process and its children."""
        self._scope = tgid

    def enriched(self) -> AbstractContextManager[None]:
        """Do nothing, because the model has no processes."""
        return nullcontext()

    def fileno(self) -> int:
        """Return a descriptor that is never readable."""
        return self._never

    def feed(self, event: Event) -> None:
        """Take in one event."""
        if self._scope in (event.pid, event.ppid):
            self._see(event)

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._kernel.stamp(event)
        rejected = self._kernel.rejected
        if self._kernel.forwards(event):
            full = len(self._ring) >= self._room
            self._counts[event.type, "ring_full" if full else "submitted"] += 1
            self._ring += [] if full else [event]
        else:
            cause = "approver_rejected" if self._kernel.rejected > rejected else "discarded"
            self._counts[event.type, cause] += 1
        if event.type in _RENAMING:
            self._kernel.invalidate()  # all discarders; a real kernel drops only those of the changed inodes

    def drain(self) -> list[Judged]:
        """See `Subject.drain`."""
        ring, self._ring = self._ring, []
        return [self._judge(event) for event in ring]

    def accounts(self) -> dict[EventType, Account]:
        """See `Subject.accounts`."""
        return {kind: Account(*(self._counts[kind, name] for name in Account._fields)) for kind in EventType}

    def skipped(self) -> Mapping[EventType, int]:
        """See `Subject.skipped`; the model skips nothing."""
        return {}

    def close(self) -> None:
        """See `Subject.close`."""
        os.close(self._never)

    def _judge(self, event: Event) -> Judged:
        rules = tuple(self._ruleset.evaluate(event))
        self._counts[event.type, "delivered"] += 1
        self._counts[event.type, "matched" if rules else "unmatched"] += 1
        if not rules:
            self._kernel.insert(event, learn(self._ruleset, event))
        return Judged(event, rules)


class FakeWorkload(Workload):
    """A generator whose events are fed to a FakeAgent."""

    def __init__(self, binary: Path, patience_s: float, agent: FakeAgent) -> None:
        super().__init__(binary, patience_s)
        self._agent = agent
        self._comms: dict[int, bytes] = {}

    def advance(self) -> Outcome | None:
        """See `Workload.advance`."""
        outcome = super().advance()
        if outcome:
            for event in events(outcome, self._comms):
                self._agent.feed(event)
        return outcome
