"""Evaluates the filters of rules and macros: conditions on this host, evaluated once when the rules load.

Examples are `os == "linux"` and `kernel.version.major >= 6`. A rule or macro with filters is in force if one
of them holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from agent.rules import literals, syntax
from agent.rules.builder import ParseError
from agent.rules.parser import parse
from agent.rules.syntax import Node

Fact = int | bytes | bool


def facts() -> dict[str, Fact]:
    """Return the values that filters can use, by name."""
    machine = os.uname()
    numbers = [int(part) for part in machine.release.replace("-", ".").split(".") if part.isdigit()]
    major, minor, patch = [*numbers, 0, 0, 0][:3]
    return {
        "os": b"linux",
        "hostname": literals.encode(machine.nodename),
        "kernel.version.major": major,
        "kernel.version.minor": minor,
        "kernel.version.patch": patch,
    }


def holds(expression: str, known: Mapping[str, Fact]) -> bool:
    """Whether a filter holds. Raises ParseError for one that is invalid or uses other names."""
    return bool(_value(parse(expression), known))


def _value(node: Node, known: Mapping[str, Fact]) -> Fact:
    if isinstance(node, syntax.Group):
        return _value(node.inner, known)
    if isinstance(node, syntax.Number | syntax.Text):
        return node.value
    if isinstance(node, syntax.Name) and node.text in known:
        return known[node.text]
    if isinstance(node, syntax.Logic):
        combine = all if node.operator == "&&" else any
        return combine([bool(_value(item, known)) for item in node.items])
    if isinstance(node, syntax.Unary) and node.operator == "!":
        return not _value(node.operand, known)
    if isinstance(node, syntax.Binary):
        return _compare(node, known)
    hint = "filters can use " + ", ".join(known)
    raise ParseError(f"a filter cannot use `{syntax.unparse(node)}`", node.at, node.end, hint)


def _compare(node: syntax.Binary, known: Mapping[str, Fact]) -> bool:
    left = _value(node.left, known)
    if node.operator in ("in", "not in") and isinstance(node.right, syntax.Sequence):
        return (left in [_value(item, known) for item in node.right.items]) == (node.operator == "in")
    right = _value(node.right, known)
    if node.operator in ("==", "!="):
        return (left == right) == (node.operator == "==")
    if isinstance(left, int) and isinstance(right, int) and node.operator in ("<", "<=", ">", ">="):
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[node.operator]
    raise ParseError(f"a filter cannot compare these values by {node.operator}", node.at, node.end)
