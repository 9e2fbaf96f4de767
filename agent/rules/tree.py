"""Defines the typed tree: a condition on one event type, with fields, macros and constants resolved.

The evaluator compiles it, and the filters derive approvers and discarders from it. A condition on a field
with several values (`process.ancestors.*`, `process.argv`) holds if it holds for one of them.

`All` and `Any` are no named tuples: those of the same items would be equal, and proofs merge what is equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from agent.rules.fields import Field
from agent.rules.patterns import Matcher


class IntConst(NamedTuple):
    """A number."""

    value: int


class IntField(NamedTuple):
    """The value of a number field."""

    field: Field


class IntVariable(NamedTuple):
    """A number that an action sets; 0 before."""

    name: str


class IntOp(NamedTuple):
    """`+ - & | ^` of two numbers."""

    operator: str
    left: Ints
    right: Ints


Ints = IntConst | IntField | IntVariable | IntOp


class TextField(NamedTuple):
    """The value of a string field."""

    field: Field


class TextVariable(NamedTuple):
    """A text that an action sets; empty before."""

    name: str


class Template(NamedTuple):
    """A text that is the concatenation of constants, fields and variables."""

    parts: tuple[bytes | Ints | TextField | TextVariable, ...]


Texts = TextField | TextVariable | Template


class Always(NamedTuple):
    """A constant condition."""

    value: bool


@dataclass(frozen=True, slots=True)
class All:
    """True if all items hold."""

    items: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Any:
    """True if at least one item holds."""

    items: tuple[Condition, ...]


class Not(NamedTuple):
    """True if the item does not hold."""

    item: Condition


class Flag(NamedTuple):
    """The value of a boolean field."""

    field: Field


class FlagVariable(NamedTuple):
    """A boolean that an action sets; false before."""

    name: str


class Compare(NamedTuple):
    """Compares two numbers by one of `== != < <= > >=`."""

    operator: str
    left: Ints
    right: Ints


class Member(NamedTuple):
    """True if the number is in the set."""

    left: Ints
    values: frozenset[int]


class Match(NamedTuple):
    """True if the text of the field matches the constants."""

    field: Field
    matcher: Matcher


class Ends(NamedTuple):
    """True if a path may match the constants, or may not, of which the field has only the end."""

    field: Field
    matcher: Matcher
    wanted: bool


class Same(NamedTuple):
    """True if two texts are equal that only the event determines."""

    left: Texts
    right: Texts


class InVariable(NamedTuple):
    """True if the text or number is one of the values that a variable has collected."""

    item: Ints | Texts
    name: str


Condition = (
    Always | All | Any | Not | Flag | FlagVariable | Compare | Member | Match | Ends | Same | InVariable
)
TRUE, FALSE = Always(True), Always(False)

_OPPOSITE = {"==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def negate(condition: Condition) -> Condition:
    """Return the negation of a condition, with every `Not` at a leaf.

    A comparison of a field with several values keeps its `Not`: "no value is equal" differs from "some value
    is not equal".
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
    """Return an equivalent condition with every `Not` at a leaf."""
    if isinstance(condition, Not):
        return negate(condition.item)
    if isinstance(condition, All):
        return All(tuple(push(item) for item in condition.items))
    if isinstance(condition, Any):
        return Any(tuple(push(item) for item in condition.items))
    return condition


def decide(condition: Condition, ask: Callable[[Condition], bool | None]) -> bool | None:
    """Evaluate a condition in three values; `ask` returns None for leaves that it does not know."""
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


def size(condition: Condition) -> int:
    """Return the number of leaves of a condition."""
    if isinstance(condition, All | Any):
        return sum(size(item) for item in condition.items)
    return size(condition.item) if isinstance(condition, Not) else 1


def fields_of(node: Condition | Ints | Texts) -> set[Field]:
    """Return all fields that a condition reads."""
    if isinstance(node, IntField | TextField | Flag | Match | Ends):
        return {node.field}
    return {field for part in _parts(node) for field in fields_of(part)}


def reads_variable(node: Condition | Ints | Texts) -> bool:
    """Whether a condition reads a variable that actions set."""
    own = isinstance(node, FlagVariable | IntVariable | TextVariable | InVariable)
    return own or any(reads_variable(part) for part in _parts(node))


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
