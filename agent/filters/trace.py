"""Follows one described event through the stages: approvers, discarders, evaluator.

A description has a type, one or two paths and, for an open, flags. Everything else of the event (its user,
its process, its container) is unknown, so a rule matches, does not match, or depends on what is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agent.events.actors import NOTHING
from agent.events.model import PROCESS_EVENTS, Event, EventType
from agent.filters.approvers import Approvers, Mode, collect, derive
from agent.filters.discarders import best
from agent.filters.model import approves
from agent.rules import evaluate, fields, tree
from agent.rules.engine import CompiledRule, Ruleset

_ROLES = (fields.FILE_PATH, fields.FILE_NAME, fields.FILE2_PATH, fields.FILE2_NAME)
_NO_USER = 0xFFFFFFFE  # an id that no rule names, and that is not the login of a process without one


@dataclass(frozen=True, slots=True)
class Trace:
    """What happens to the event.

    `approved_by` are the rules whose approvers pass the event for every user, `perhaps_by` those that pass
    it for some users, inodes or files of the overlay's upper layer only; `open` means that the kernel does
    not filter events of this type. `matches` are rules that match, `depends` maps others to the fields that
    decide. `discards` is the directory or file below which the kernel drops events like this one once one of
    them matched no rule, b"" if there is none.
    """

    open: bool
    approved_by: tuple[str, ...]
    perhaps_by: tuple[str, ...]
    matches: tuple[str, ...]
    depends: dict[str, tuple[str, ...]]
    rules: int
    discards: bytes

    @property
    def approved(self) -> bool:
        """Whether the event passes the approvers for every user."""
        return self.open or bool(self.approved_by)


def trace(ruleset: Ruleset, event: Event) -> Trace:
    """Follow a successful event, of which only type, paths and flags are known."""
    event = replace(event, uid=_NO_USER, auid=_NO_USER)
    rules = ruleset.by_type[event.type]
    approvers = derive(ruleset)[event.type]
    answers = {rule.id: tree.decide(rule.condition, _Asker(event)) for rule in rules}
    unfiltered = approvers.mode is Mode.FORWARD_ALL or event.type in PROCESS_EVENTS
    discard = None if any(answers.values()) else best(ruleset, event)
    level = discard.level if discard else 0
    return Trace(
        unfiltered,
        tuple(name for name, each in _of_rules(approvers) if approves(each, event)),
        tuple(name for name, each in _of_rules(approvers) if _perhaps(each) and not approves(each, event)),
        tuple(name for name, answer in answers.items() if answer),
        {rule.id: _undecided(rule, event) for rule in rules if answers[rule.id] is None},
        len(rules),
        (event.file.path.rsplit(b"/", level)[0] if level else event.file.path) if discard else b"",
    )


def _of_rules(approvers: Approvers) -> list[tuple[str, Approvers]]:
    return [(reason.rule, collect(frozenset(reason.wants))) for reason in approvers.reasons if reason.wants]


def _perhaps(approvers: Approvers) -> bool:
    return bool(approvers.uids or approvers.auids or approvers.upper_layer or approvers.inodes)


class _Asker:
    """Answers what a leaf of a condition is for the event; None if that is unknown."""

    def __init__(self, event: Event) -> None:
        self._event = event

    def __call__(self, leaf: tree.Condition) -> bool | None:
        if not isinstance(leaf, tree.Match | tree.Compare | tree.Member) or tree.reads_variable(leaf):
            return None
        if not all(_known(field, self._event) for field in tree.fields_of(leaf)):
            return None
        return evaluate.predicate(leaf)(self._event, NOTHING, {})


def _known(field: fields.Field, event: Event) -> bool:
    own = field.name.startswith(f"{event.type.label}.")
    flags = event.type is EventType.OPEN and field.role == fields.FLAGS
    return field.role in _ROLES or flags or (own and field.name.endswith((".extension", ".retval")))


def _undecided(rule: CompiledRule, event: Event) -> tuple[str, ...]:
    """Return what the answer depends on: fields that the description does not have, and variables."""
    unknown = {field.name for field in tree.fields_of(rule.condition) if not _known(field, event)}
    return (*sorted(unknown), *(("variables",) if tree.reads_variable(rule.condition) else ()))
