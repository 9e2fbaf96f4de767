"""The typed tree: a condition on one event type, with fields resolved and macros and constants gone.

The evaluator compiles it, the filters reason about it. A condition over a field with several values
(`process.ancestors.*`, `process.argv`) holds when one of the values fulfils it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agent.rules.fields import Field
from agent.rules.patterns import Matcher


class IntConst(NamedTuple):
    """A number."""

    value: int


class IntField(NamedTuple):
    """A field's number."""

    field: Field


class IntVariable(NamedTuple):
    """A number that the action of some rule set; 0 before."""

    name: str


class IntOp(NamedTuple):
    """`+ - & | ^` of two numbers."""

    operator: str
    left: Ints
    right: Ints


Ints = IntConst | IntField | IntVariable | IntOp


class TextField(NamedTuple):
    """A field's text."""

    field: Field


class TextVariable(NamedTuple):
    """A text that the action of some rule set; empty before."""

    name: str


class Template(NamedTuple):
    """A text with values in it: constant pieces, fields and variables side by side."""

    parts: tuple[bytes | Ints | TextField | TextVariable, ...]


Texts = TextField | TextVariable | Template


class Always(NamedTuple):
    """True or false, whatever happens."""

    value: bool


class All(NamedTuple):
    """Every one of them."""

    items: tuple[Condition, ...]


class Any(NamedTuple):
    """At least one of them."""

    items: tuple[Condition, ...]


class Not(NamedTuple):
    """The contrary."""

    item: Condition


class Flag(NamedTuple):
    """A field that is true or false."""

    field: Field


class FlagVariable(NamedTuple):
    """True or false, as the action of some rule set it; false before."""

    name: str


class Compare(NamedTuple):
    """Two numbers, with one of `== != < <= > >=`."""

    operator: str
    left: Ints
    right: Ints


class Member(NamedTuple):
    """A number out of a set."""

    left: Ints
    values: frozenset[int]


class Match(NamedTuple):
    """A text against constants."""

    field: Field
    matcher: Matcher


class Same(NamedTuple):
    """Two texts that are only known when the event is there."""

    left: Texts
    right: Texts


class InVariable(NamedTuple):
    """A text or number out of those that actions collected under a name."""

    item: Ints | Texts
    name: str


Condition = Always | All | Any | Not | Flag | FlagVariable | Compare | Member | Match | Same | InVariable
TRUE, FALSE = Always(True), Always(False)

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def negate(condition: Condition) -> Condition:
    """The contrary, with the negation pushed inwards until it meets a leaf.

    A comparison of a field with several values keeps its `Not`: none of the values is not the same as another
    one.
    """
    if isinstance(condition, Always):
        return Always(not condition.value)
    if isinstance(condition, All):
        return Any(tuple(negate(item) for item in condition.items))
    if isinstance(condition, Any):
        return All(tuple(negate(item) for item in condition.items))
    if isinstance(condition, Not):
        return push(condition.item)
    if isinstance(condition, Compare) and not any(field.source for field in fields_of(condition)):
        return Compare(_OPPOSITE[condition.operator], condition.left, condition.right)
    return Not(condition)


def push(condition: Condition) -> Condition:
    """The same condition with every negation at a leaf."""
    if isinstance(condition, Not):
        return negate(condition.item)
    if isinstance(condition, All):
        return All(tuple(push(item) for item in condition.items))
    if isinstance(condition, Any):
        return Any(tuple(push(item) for item in condition.items))
    return condition


def decide(condition: Condition, ask: Callable[[Condition], bool | None]) -> bool | None:
    """Truth of a condition when `ask` knows only some of its leaves: True, False, or None for unknown."""
    if isinstance(condition, Always):
        return condition.value
    if isinstance(condition, Not):
        inner = decide(condition.item, ask)
        return None if inner is None else not inner
    if isinstance(condition, All | Any):
        decisive = isinstance(condition, Any)
        answers = {decide(item, ask) for item in condition.items}
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    return ask(condition)


def fields_of(node: Condition | Ints | Texts) -> set[Field]:
    """Every field that a condition reads."""
    if isinstance(node, IntField | TextField | Flag):
        return {node.field}
    if isinstance(node, Match):
        return {node.field}
    found: set[Field] = set()
    for part in _parts(node):
        found |= fields_of(part)
    return found


def _parts(node: Condition | Ints | Texts) -> tuple[Condition | Ints | Texts, ...]:
    if isinstance(node, All | Any):
        return node.items
    if isinstance(node, Not | InVariable):
        return (node.item,)
    if isinstance(node, IntOp | Compare | Same):
        return (node.left, node.right)
    if isinstance(node, Member):
        return (node.left,)
    if isinstance(node, Template):
        return tuple(part for part in node.parts if not isinstance(part, bytes))
    return ()
