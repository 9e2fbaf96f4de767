"""Evaluates the operands of comparisons: resolves names and determines types."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from agent.rules import fields, syntax, tree
from agent.rules.scope import Fault, Scope
from agent.rules.syntax import Node

MAX_WORK = 50_000  # nodes of one expression, macros expanded
MAX_MACROS = 16  # levels of nested macros
MAX_FAULTS = 20  # recorded of one expression
_TYPES = {fields.INT: "a number", fields.TEXT: "a string", fields.BOOL: "true or false"}
_PLACEHOLDER = re.compile(rb"\$\{([A-Za-z_][A-Za-z0-9_.]*)\}")


class Items(NamedTuple):
    """The items of a list."""

    items: tuple[Operand, ...]


class VariableList(NamedTuple):
    """A variable that collects several values."""

    name: str
    type: str


Operand = tree.Ints | tree.Texts | tree.Condition | syntax.Text | Items | VariableList
INTS = (tree.IntConst, tree.IntField, tree.IntVariable, tree.IntOp)
TEXTS = (tree.TextField, tree.TextVariable, tree.Template)


class Stop(Exception):  # noqa: N818 - control flow: the error is already recorded
    """Raised after a fault was recorded, to skip this part of the expression."""


class Reader(ABC):
    """Evaluates operands in a scope and records faults.

    A fault inside a macro is reported at the place that uses the macro.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.faults: list[Fault] = []
        self._using: list[tuple[str, Node]] = []
        self.work = 0  # nodes so far, macros expanded

    def fault(self, message: str, node: Node, hint: str = "") -> Stop:
        """Record a fault at a node and return the exception for the caller to raise."""
        if len(self.faults) >= MAX_FAULTS:
            return Stop()
        if self._using:
            name, node = self._using[0][0], self._using[0][1]
            message = f"{message} (in macro {name})"
        found = Fault(message, node.at, node.end, hint)
        if found not in self.faults:
            self.faults.append(found)
        return Stop()

    def spend(self, node: Node, parts: int = 1) -> None:
        """Count a node against MAX_WORK: nested macros and compared conditions can grow exponentially."""
        self.work += parts
        if self.work > MAX_WORK:
            raise self.fault(f"the expression has more than {MAX_WORK} parts with its macros expanded", node)

    @contextmanager
    def within(self, name: str, node: Node) -> Iterator[None]:
        """Evaluate a macro on behalf of the node that uses it."""
        if any(name == outer for outer, _ in self._using):
            raise self.fault(f"macro {name} uses itself", node)
        if len(self._using) >= MAX_MACROS:
            raise self.fault(f"macros are nested more than {MAX_MACROS} levels deep", node)
        self._using.append((name, node))
        try:
            yield
        finally:
            self._using.pop()

    def operand(self, node: Node) -> Operand:
        """Return the operand of a node. Raises Stop after recording a fault."""
        self.spend(node)
        if isinstance(node, syntax.Group):
            return self.operand(node.inner)
        if isinstance(node, syntax.Number):
            return tree.IntConst(node.value)
        if isinstance(node, syntax.Text):
            return self._text(node)
        if isinstance(node, syntax.Name):
            return self.name(node)
        if isinstance(node, syntax.Variable):
            return self.variable(node, node.name)
        if isinstance(node, syntax.Sequence):
            return self._sequence(node)
        return self._computed(node)

    def _computed(self, node: Node) -> Operand:
        if isinstance(node, syntax.Unary) and node.operator != "!":
            inner = self._int(node.operand)
            if node.operator == "-":
                return _fold(tree.IntOp("-", tree.IntConst(0), inner))
            return _fold(tree.IntOp("^", inner, tree.IntConst(-1)))
        if isinstance(node, syntax.Binary) and node.operator in ("+", "-", "&", "|", "^"):
            return _fold(tree.IntOp(node.operator, self._int(node.left), self._int(node.right)))
        return self.condition(node)

    @abstractmethod
    def condition(self, node: Node) -> tree.Condition:
        """Return the condition of a node; implemented by the checker."""

    def _int(self, node: Node) -> tree.Ints:
        value = self.operand(node)
        if isinstance(value, INTS):
            return value
        raise self.fault(f"{describe(value)} cannot be used in arithmetic", node)

    def _sequence(self, node: syntax.Sequence) -> Items:
        items: list[Operand] = []
        for item in node.items:
            value = self.operand(item)
            items += value.items if isinstance(value, Items) else (value,)
        return Items(tuple(items))

    def name(self, node: syntax.Name) -> Operand:
        """Resolve a name: true, false, a macro, a constant or a field."""
        if node.text in ("true", "false"):
            return tree.Always(node.text == "true")
        macro = self.scope.macros.get(node.text)
        if macro is not None:
            with self.within(macro.name, node):
                return self.operand(macro.node)
        number = self.scope.constant(node.text)
        if number is not None:
            return tree.IntConst(number)
        field = self.scope.field(node.text)
        if field is None:
            if self.scope.elsewhere(node.text):  # already reported for the whole expression
                raise Stop
            message, hint = self.scope.complain(node.text)
            raise self.fault(message, node, hint)
        return _of_field(field)

    def variable(self, node: Node, name: str) -> Operand:
        """Resolve `${name}`: a single-valued field, or a variable that an action sets."""
        field = self.scope.field(name)
        if field is not None and not field.source:
            return _of_field(field)
        known = self.scope.variables.get(name)
        if known is None:
            raise self.fault(
                f"unknown variable `${{{name}}}`", node, "define it with the action `set` of a rule"
            )
        if known.many:
            return VariableList(name, known.type)
        if known.type == fields.BOOL:
            return tree.FlagVariable(name)
        return tree.IntVariable(name) if known.type == fields.INT else tree.TextVariable(name)

    def _text(self, node: syntax.Text) -> Operand:
        if node.kind != "string":
            self._no_variable(node)
            return node
        if not _PLACEHOLDER.search(node.value):
            return node
        parts: list[bytes | tree.Ints | tree.TextField | tree.TextVariable] = []
        for index, piece in enumerate(_PLACEHOLDER.split(node.value)):
            if index % 2 == 0:
                parts += [piece] if piece else []
                continue
            value = self.variable(node, piece.decode())
            if not isinstance(value, (tree.TextField, tree.TextVariable, *INTS)):
                raise self.fault(f"`${{{piece.decode()}}}` cannot be part of a string", node)
            parts.append(value)
        return tree.Template(tuple(parts))

    def _no_variable(self, pattern: syntax.Text) -> None:
        """Reject a pattern that contains a variable: patterns are compiled when the rules load."""
        if found := _PLACEHOLDER.search(pattern.value):
            raise self.fault(
                f"`{found[0].decode()}` cannot be part of a pattern",
                pattern,
                "use a string without wildcards, or `*` in place of the variable",
            )


def _of_field(field: fields.Field) -> Operand:
    if field.type == fields.INT:
        return tree.IntField(field)
    return tree.TextField(field) if field.type == fields.TEXT else tree.Flag(field)


def _fold(node: tree.IntOp) -> tree.Ints:
    if isinstance(node.left, tree.IntConst) and isinstance(node.right, tree.IntConst):
        return tree.IntConst(compute(node.operator, node.left.value, node.right.value))
    return node


def compute(operator: str, left: int, right: int) -> int:
    """Apply `+ - & | ^` to two integers."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "&":
        return left & right
    return left | right if operator == "|" else left ^ right


def describe(value: Operand) -> str:
    """Describe an operand for messages: "a list", or a field with its type."""
    if isinstance(value, tree.IntField | tree.TextField | tree.Flag):
        return f"`{value.field.name}` ({_TYPES[value.field.type]})"
    if isinstance(value, INTS):
        return "a number"
    if isinstance(value, Items | VariableList):
        return "a list"
    if isinstance(value, syntax.Text) and value.kind != "string":
        return "a pattern"
    return "a string" if isinstance(value, (*TEXTS, syntax.Text)) else "a condition"
