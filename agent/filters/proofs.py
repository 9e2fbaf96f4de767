"""Reduces rules to the forms that a discarder's proof must show to be false.

A path decides only some leaves of a condition. With every negation at a leaf, all other leaves can be
replaced by true, because they are unknown. The rest of a rule is the same for most event types, because a
rule on `fim.write.*` is compiled for each of them. So the rules of all types become a few forms, each with a
mask of its types, and a proof evaluates each form once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from agent.events.model import EventType
from agent.rules import tree
from agent.rules.engine import CompiledRule
from agent.rules.fields import Field
from agent.rules.patterns import Matcher

SLOT = "file"  # in forms this slot stands for either file of an event

Forms = tuple[tuple[tree.Condition, int], ...]


def forms(
    rules: Mapping[EventType, Iterable[CompiledRule]], slots: Mapping[EventType, tuple[str, ...]]
) -> Forms:
    """Return each form with the mask of the event types whose rules may match unless it is false."""
    types: dict[tree.Condition, int] = {}
    for kind, compiled in rules.items():
        for rule in compiled:
            for slot in slots.get(kind, (SLOT,)):
                for form in _alternatives(cut(tree.push(rule.condition), slot)):
                    types[form] = types.get(form, 0) | kind.mask
    return tuple(_merged(types))


def _merged(unmerged: Mapping[tree.Condition, int]) -> Iterator[tuple[tree.Condition, int]]:
    """Merge the forms that test the same field for the same event types."""
    matchers: dict[tuple[Field, int], list[Matcher]] = {}
    for form, types in unmerged.items():
        if isinstance(form, tree.Match):
            matchers.setdefault((form.field, types), []).append(form.matcher)
        else:
            yield form, types
    for (field, types), several in matchers.items():
        exact = frozenset(value for matcher in several for value in matcher.exact)
        patterns = dict.fromkeys(pattern for matcher in several for pattern in matcher.patterns)
        yield tree.Match(field, Matcher(exact, tuple(patterns))), types


def cut(condition: tree.Condition, slot: str) -> tree.Condition:
    """Replace the leaves that the path of one file cannot decide by true.

    The negations of the condition must be at its leaves.
    """
    if isinstance(condition, tree.All):
        return _all(cut(item, slot) for item in condition.items)
    if isinstance(condition, tree.Any):
        return _any(cut(item, slot) for item in condition.items)
    if isinstance(condition, tree.Not):
        inner = cut(condition.item, slot)
        return inner if isinstance(inner, tree.Always) else tree.Not(inner)
    if isinstance(condition, tree.Match) and condition.field.role in (f"{slot}.path", f"{slot}.name"):
        return tree.Match(_field(condition.field, slot), condition.matcher)
    return condition if isinstance(condition, tree.Always) else tree.TRUE


def _field(field: Field, slot: str) -> Field:
    """Return a field that is the same for all event types."""
    role = f"{SLOT}{field.role.removeprefix(slot)}"
    return Field(role, field.type, "", "", role, path=field.path)


def _all(items: Iterable[tree.Condition]) -> tree.Condition:
    left = tuple(dict.fromkeys(item for item in items if item != tree.TRUE))
    if tree.FALSE in left:
        return tree.FALSE
    return tree.All(left) if len(left) > 1 else (left or (tree.TRUE,))[0]


def _any(items: Iterable[tree.Condition]) -> tree.Condition:
    left = tuple(dict.fromkeys(item for item in items if item != tree.FALSE))
    if tree.TRUE in left:
        return tree.TRUE
    return tree.Any(left) if len(left) > 1 else (left or (tree.FALSE,))[0]


def _alternatives(form: tree.Condition) -> Iterator[tree.Condition]:
    if isinstance(form, tree.Any):
        yield from form.items
    elif form != tree.FALSE:
        yield form
