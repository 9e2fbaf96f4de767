"""Reports the agent's own state as events: heartbeats, losses, and which rules are in force.

A heartbeat is more than a sign of life. Before each one the agent starts a child that opens `/dev/null` and
ends, and then looks whether its hooks have seen both. A type of event that they missed is in `blind`. So the
events alone show whether a host is quiet (heartbeats, nothing in `blind`, no loss), whether the agent sees
nothing (`blind`), and whether it does not run or its events do not arrive (a gap in `number`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from agent.errors import AgentError
from agent.events.model import Event, EventType
from agent.rules.engine import Ruleset

State = Mapping[str, Any]
Report = Callable[[str, Mapping[str, Any]], None]

HEARTBEAT_S = 60.0
LOSS_S = 10.0  # how long a loss may stay unreported
LINKS_S = 60.0  # how long a changed symbolic link may stay unreported
MAX_DETAIL = 4_096  # characters of the errors in an event
PROBE_S = 1.0  # how long the events of the child may take
_LOSSES = ("ring_full", "oversize", "program_misses", "read_errors")
_COUNTED = ("seen", "delivered", "matched")


def probe() -> None:
    """Make events that the hooks must see: a child opens `/dev/null`, cannot run it, and exits.

    With O_SYNC all hooks of an open take part, even if no rule can want it (`bpf/open.h`).
    """
    with suppress(OSError):  # /dev/null is no program
        opened = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY | os.O_SYNC, 0)
        os.posix_spawn("/dev/null", ["fim-probe"], {}, file_actions=[opened])


def is_probe(event: Event) -> bool:
    """Whether an event is one that `probe` of this process made: no rule shall report it."""
    mine = event.ppid == os.getpid() and event.type in (EventType.OPEN, EventType.EXEC)
    return mine and event.file.path == b"/dev/null"


class Alive:
    """Sends the agent's own events by `report(kind, members)`. The event loop calls `tick` often."""

    def __init__(
        self,
        state: Callable[[], State],
        report: Report,
        interval_s: float = HEARTBEAT_S,
        clock: Callable[[], float] = time.monotonic,
        make_events: Callable[[], None] = probe,
    ) -> None:
        self._state = state
        self._report = report
        self._interval_s = interval_s
        self._clock = clock
        self._make_events = make_events
        self._number = 0
        self._ruleset = Ruleset([])
        self._probed: State | None = None  # the state before the child started
        now = clock()
        self._probe_at = now
        self._beat_at, self._loss_at, self._links_at = now, now + LOSS_S, now + LINKS_S
        self._lost_before: dict[str, Any] = {}

    def enforced(self, ruleset: Ruleset, cause: str) -> None:
        """Report the rules that are in force from now on."""
        self._ruleset = ruleset
        self._report_rules({"cause": cause, "outcome": "ok"})

    def refused(self, error: AgentError) -> None:
        """Report a reload that failed, with the rules that stay in force."""
        detail = error.detail[:MAX_DETAIL]
        self._report_rules({"cause": "reload", "outcome": "failed", "error": error.message, "detail": detail})

    def _report_rules(self, about: State) -> None:
        rules = self._ruleset
        counts = {"rules": len(rules.rules), "left_out": len(rules.left_out), "digest": rules.digest}
        self._report("rules", {**about, **counts})

    def tick(self) -> tuple[str, ...]:
        """Report what is due. Return new notes about symbolic links that the rules name."""
        now = self._clock()
        if now >= self._loss_at:
            self._loss_at = now + LOSS_S
            self.report_losses()
        if self._interval_s and now >= self._beat_at:
            self._beat(now)
        if now < self._links_at:
            return ()
        self._links_at = now + LINKS_S
        return tuple(self._ruleset.new_notes())

    def stop(self) -> None:
        """Send the last heartbeat, which says that the agent stops."""
        self.report_losses()
        self._send([], stopping=True)

    def report_losses(self) -> None:
        """Report everything lost since the last report, if anything was."""
        lost = _losses(self._state())
        new = _since(lost, self._lost_before)
        if new:
            self._report("loss", new)
        self._lost_before = lost

    def _beat(self, now: float) -> None:
        if self._probed is None:
            self._probed = self._state()
            self._make_events()
            self._beat_at, self._probe_at = now + PROBE_S, now + max(PROBE_S, self._interval_s)
            return
        blind = self._blind(self._probed["ledger"], self._state()["ledger"])
        self._probed = None
        self._beat_at = self._probe_at
        self._send(blind, stopping=False)

    def _blind(self, before: Mapping[str, Mapping[str, int]], after: Mapping[str, Any]) -> list[str]:
        """Return the types of which the child's event was not seen."""
        expected = [(EventType.EXIT, "delivered")]
        if self._ruleset.by_type[EventType.OPEN]:
            expected.append((EventType.OPEN, "seen"))
        return [
            kind.label
            for kind, count in expected
            if after.get(kind.label, {}).get(count, 0) <= before.get(kind.label, {}).get(count, 0)
        ]

    def _send(self, blind: list[str], *, stopping: bool) -> None:
        self._number += 1
        state = self._state()
        ledger = state["ledger"].items()
        self._report(
            "heartbeat",
            {
                "number": self._number,
                "interval_s": self._interval_s,
                "uptime_s": state["uptime_s"],
                "stopping": stopping,
                "blind": blind,
                "rules": state["rules"],
                "digest": self._ruleset.digest,
                "events": {kind: {name: row.get(name, 0) for name in _COUNTED} for kind, row in ledger},
                "lost": state.get("lost", 0),
                "rate_limited": sum(state["rate_limited"].values()),
                "muted": state["muted"]["held"],
                "sinks": state["sinks"],
            },
        )


def _losses(state: State) -> dict[str, Any]:
    """Return the lost events by type and cause, by user, and the dropped matches by sink."""
    ledger = state["ledger"].items()
    return {
        "events": {kind: {name: row.get(name, 0) for name in _LOSSES} for kind, row in ledger},
        "undecodable": state.get("undecodable", 0),
        "by_user": dict(state.get("lost_by_user", {})),
        "dropped": {sink: row["dropped"] for sink, row in state["sinks"].items()},
    }


def _since(now: Any, before: Any) -> Any:
    """Return what grew, as nested objects without zeros."""
    if not isinstance(now, Mapping):
        return now - (before or 0)
    grown = {key: _since(value, (before or {}).get(key)) for key, value in now.items()}
    return {key: value for key, value in grown.items() if value}
