"""Builds the syntax tree while the parser reduces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agent.rules import literals
from agent.rules.syntax import Binary, Group, Logic, Name, Node, Number, Sequence, Text, Unary, Variable

MAX_ITEMS = 4_096  # of one list


class ParseError(Exception):
    """An invalid expression; `at` and `end` are offsets in its text."""

    def __init__(self, message: str, at: int, end: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.end = max(end, at + 1)
        self.hint = hint


class Builder:
    """Creates nodes: one method for each rule of the grammar, called with its children."""

    def start(self, items: list[Any]) -> Node:
        """The whole expression."""
        node: Node = items[0]
        return node

    def disjunction(self, items: list[Any]) -> Node:
        """`a || b`: no `&&` without parentheses may come before the last `||`."""
        for item, operator in zip(items[:-1:2], items[1::2], strict=False):
            if isinstance(item, Logic) and item.operator == "&&":
                message = (
                    "`a && b || c` is read as a && (b || c) by Datadog's agent and as (a && b) || c elsewhere"
                )
                raise ParseError(message, operator.start_pos, operator.end_pos, "add parentheses")
        return self._logic("||", items[::2])

    def conjunction(self, items: list[Any]) -> Node:
        """`a && b`."""
        return self._logic("&&", items[::2])

    @staticmethod
    def _logic(operator: str, nodes: list[Any]) -> Node:
        return Logic(nodes[0].at, nodes[-1].end, operator, tuple(nodes))

    def invert(self, items: list[Any]) -> Node:
        """`!a`."""
        return Unary(items[0].start_pos, items[1].end, "!", items[1])

    def negative(self, items: list[Any]) -> Node:
        """`-a`."""
        return Unary(items[0].start_pos, items[1].end, "-", items[1])

    def complement(self, items: list[Any]) -> Node:
        """`^a`, all bits inverted."""
        return Unary(items[0].start_pos, items[1].end, "^", items[1])

    def compare(self, items: list[Any]) -> Node:
        """`a == b` and the other comparisons."""
        return Binary(items[0].at, items[2].end, str(items[1]), items[0], items[2])

    def member(self, items: list[Any]) -> Node:
        """`a in b`."""
        if items[1] == "allin":
            raise ParseError("`allin` is not supported", items[1].start_pos, items[1].end_pos)
        return Binary(items[0].at, items[2].end, "in", items[0], items[2])

    def not_member(self, items: list[Any]) -> Node:
        """`a not in b`."""
        return Binary(items[0].at, items[3].end, "not in", items[0], items[3])

    def sum(self, items: list[Any]) -> Node:
        """`a + b - c`, from left to right."""
        return self._chain(items)

    def bits(self, items: list[Any]) -> Node:
        """`a & b`: two different bit operators need parentheses."""
        operators = items[1::2]
        for operator in operators:
            if operator != operators[0]:
                message = f"`{operators[0]}` and `{operator}` without parentheses are ambiguous"
                hint = "add parentheses: a & (b | c)"
                raise ParseError(message, operator.start_pos, operator.end_pos, hint)
        return self._chain(items)

    @staticmethod
    def _chain(items: list[Any]) -> Node:
        node = items[0]
        for operator, operand in zip(items[1::2], items[2::2], strict=True):
            node = Binary(node.at, operand.end, str(operator), node, operand)
        result: Node = node
        return result

    def name(self, items: list[Any]) -> Node:
        """A field, constant or macro."""
        return Name(items[0].start_pos, items[0].end_pos, str(items[0]))

    def string(self, items: list[Any]) -> Node:
        """`"text"`."""
        token = items[0]
        try:
            value = literals.string(token)
        except literals.BadLiteralError as error:
            raise ParseError(str(error), token.start_pos + error.at, token.start_pos + error.at + 2) from None
        return Text(token.start_pos, token.end_pos, "string", value)

    def glob(self, items: list[Any]) -> Node:
        """`~"glob"`."""
        return Text(items[0].start_pos, items[0].end_pos, "glob", literals.pattern(items[0]))

    def regex(self, items: list[Any]) -> Node:
        """`r"expression"`."""
        return Text(items[0].start_pos, items[0].end_pos, "regex", literals.pattern(items[0]))

    def number(self, items: list[Any]) -> Node:
        """An integer."""
        return self._number(items[0], literals.integer)

    def duration(self, items: list[Any]) -> Node:
        """`10s`."""
        return self._number(items[0], literals.duration)

    @staticmethod
    def _number(token: Any, read: Callable[[str], int]) -> Node:
        try:
            return Number(token.start_pos, token.end_pos, read(token))
        except literals.BadLiteralError as error:
            raise ParseError(str(error), token.start_pos, token.end_pos) from None

    def variable(self, items: list[Any]) -> Node:
        """`${name}`."""
        return Variable(items[0].start_pos, items[0].end_pos, items[0][2:-1])

    def address(self, items: list[Any]) -> Node:
        """A network address, which is not supported."""
        raise ParseError("network addresses are not supported", items[0].start_pos, items[0].end_pos)

    def group(self, items: list[Any]) -> Node:
        """`(a)`."""
        return Group(items[0].start_pos, items[2].end_pos, items[1])

    def list(self, items: list[Any]) -> Node:
        """`[a, b]`."""
        nodes = [item for item in items[1:-1:2] if item is not None]
        if len(nodes) > MAX_ITEMS:
            raise ParseError(
                f"the list has more than {MAX_ITEMS} items", items[0].start_pos, items[0].end_pos
            )
        return Sequence(items[0].start_pos, items[-1].end_pos, tuple(nodes))
