"""Reports matched events to the sinks: applies rate limits, computes digests and renders lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.context.hashing import Hasher
from agent.events.actors import Context
from agent.events.model import Event
from agent.rules.engine import OWN_PREFIX, Rule
from agent.sinks.base import Match
from agent.sinks.dispatch import Dispatcher
from agent.sinks.explain import Explainer
from agent.sinks.mute import Mutes
from agent.sinks.ratelimit import RateLimit
from agent.sinks.render import Renderer, WallClock

OWN_TYPE = "agent"  # the event type of the agent's own events
_SECOND_NS = 1_000_000_000


class Reporter:
    """Sends a line for each rule that matched an event. The caller replaces `rules` after a reload."""

    def __init__(
        self,
        renderer: Renderer,
        dispatcher: Dispatcher,
        limit: RateLimit,
        hasher: Hasher,
        *,
        hash_all: bool = False,
        clock: WallClock | None = None,
        explainer: Explainer | None = None,
        mutes: Mutes | None = None,
    ) -> None:
        self.mutes = mutes or Mutes()
        self.mutes.report = self.own
        self.explainer = explainer or Explainer({}, dispatcher.send)
        self.limit = limit
        self.hasher = hasher
        self.rules: Mapping[str, Rule] = {}
        self._renderer = renderer
        self._dispatcher = dispatcher
        self._hash_all = hash_all
        self._clock = clock or WallClock()

    def matched(self, event: Event, context: Context, rules: Sequence[str]) -> None:
        """Report an event to all sinks, once for each rule that the rate limit admits for its user."""
        if self.mutes.active:
            rules = [rule for rule in rules if not self.mutes.holds(rule, event)]
        admitted = [rule for rule in rules if self.limit.admit(rule, self._every_s(rule), event.uid)]
        if not admitted:
            return
        unix_ns = self._clock.unix_ns(event.time_ns)
        body = self._renderer.body(event, context, unix_ns, self._digest(event, admitted))
        for rule in admitted:
            line = self._renderer.line(rule, body)
            self.explainer.send(Match(rule, event.type.label, unix_ns, line), event, context)

    def own(self, kind: str, members: Mapping[str, Any]) -> None:
        """Report an event of the agent itself to all sinks, as the rule `agent.KIND`, without a limit."""
        rule, now = f"{OWN_PREFIX}{kind}", self._clock.now_ns()
        self._dispatcher.send(Match(rule, OWN_TYPE, now, self._renderer.own(rule, now, members)))

    def _digest(self, event: Event, rules: Sequence[str]) -> str:
        wanted = self._hash_all or any(rule in self.rules and self.rules[rule].hash for rule in rules)
        return self.hasher.digest(event) if wanted else ""

    def _every_s(self, rule: str) -> float:
        known = self.rules.get(rule)
        return known.every_ns / _SECOND_NS if known else 0.0
