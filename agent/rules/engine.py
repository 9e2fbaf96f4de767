"""Holds a rule set and evaluates its rules for each event.

A rule set is immutable. To change the rules the caller replaces the set, so one event is always evaluated by
one set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.events.actors import NOTHING, Context
from agent.events.model import Event, EventType
from agent.rules import tree
from agent.rules.actions import SetAction, Store
from agent.rules.followed import Followed
from agent.rules.index import Index
from agent.rules.problems import Problem
from agent.rules.truncated import is_truncated, may_hold

OWN_PREFIX = "agent."  # of the names of the agent's own events, which no rule can have


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as its author wrote it.

    `every_ns` is the minimum time between two reports, 0 for no limit. A `silent` rule runs its actions and
    reports nothing. `hash` adds the SHA-256 of the file to each match.
    """

    id: str
    expression: str
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    file: str = ""
    line: int = 0
    every_ns: int = 0
    silent: bool = False
    hash: bool = False
    sets: tuple[SetAction, ...] = ()


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule for one event type; a rule with `fim.write` fields is compiled for several."""

    id: str
    type: EventType
    condition: tree.Condition
    rule: Rule


class Ruleset:
    """An immutable set of rules, indexed by event type.

    `left_out` are the errors of the entries that were left out, `notes` are lines for the user about the rule
    files. `new_notes` returns those that became true since, because a symbolic link changed. `digest` is the
    SHA-256 of the files in loading order. `followed` are the files of `any_path`. If there are some,
    `renew` loads the same texts again, with the files that lie at these paths then; both share `variables`.
    """

    def __init__(self, compiled: Iterable[CompiledRule], left_out: Iterable[Problem] = ()) -> None:
        self.left_out = tuple(left_out)
        self.notes: tuple[str, ...] = ()
        self.new_notes: Callable[[], Sequence[str]] = tuple
        self.digest = ""
        self.followed = Followed()
        self.renew: Callable[[], Ruleset] | None = None
        by_type: dict[EventType, list[CompiledRule]] = {kind: [] for kind in EventType}
        self.rules: dict[str, Rule] = {}
        for rule in compiled:
            by_type[rule.type].append(rule)
            self.rules[rule.id] = rule.rule
        self.by_type: dict[EventType, tuple[CompiledRule, ...]] = {
            kind: tuple(by_type[kind]) for kind in by_type
        }
        self._indexes = [
            Index([rule.condition for rule in rules]) if rules else None for rules in self.by_type.values()
        ]
        self._truncated: dict[EventType, Index] = {}
        self._names = [[rule.id for rule in rules] for rules in self.by_type.values()]
        self.variables = Store()
        self._acting = any(rule.sets for rule in self.rules.values())

    def evaluate(self, event: Event, context: Context = NOTHING) -> list[str]:
        """Return the ids of the rules that match, in the order of the files. Runs their `set` actions.

        Silent rules are left out.
        """
        index = self._indexes[event.type]
        if index and is_truncated(event):
            index = self._of_truncated(event.type)
        numbers = index.evaluate(event, context, self.variables.values) if index else ()
        if not numbers:
            return []
        names = self._names[event.type]
        hits = [names[number] for number in numbers]
        if hits and self._acting:
            for hit in hits:
                for action in self.rules[hit].sets:
                    self.variables.apply(action, event, context)
            hits = [hit for hit in hits if not self.rules[hit].silent]
        return hits

    def _of_truncated(self, kind: EventType) -> Index:
        """Return the index for events with a truncated path; it is made for the first of them."""
        index = self._truncated.get(kind)
        if index is None:
            index = self._truncated[kind] = Index([may_hold(rule.condition) for rule in self.by_type[kind]])
        return index
