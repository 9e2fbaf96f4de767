"""Compiles typed trees to Python functions.

The generated source consists of the getters of the table of fields, operators, integers and names of
constants. Text from a rule file never becomes part of the source: it is passed as an object under such a
name. All rules of an event type become one function, so that each field is read once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any as Anything
from typing import TypeVar

from agent.events.actors import Context
from agent.events.model import Event
from agent.rules import field_values, tree
from agent.rules.fields import Field
from agent.rules.patterns import Matcher, Pattern

Variables = dict[str, Anything]
Name = TypeVar("Name", str, int)

_PYTHON = {"==", "!=", "<", "<=", ">", ">=", "+", "-", "&", "|", "^"}
_HOISTED = ("e.file.path", "e.flags", "e.retval", "e.uid", "e.mode")


class Compiler:
    """Generates the source of one function and collects its constants."""

    def __init__(self) -> None:
        self.constants: dict[str, Anything] = {
            "NO_FILE": field_values.NO_FILE,
            "parent": field_values.parent,
            "extension": field_values.extension,
            "exit_number": field_values.exit_number,
            "exit_cause": field_values.exit_cause,
            "args_flags": field_values.args_flags,
            "args_options": field_values.args_options,
            "__builtins__": {"any": any, "len": len, "str": str},
        }

    def constant(self, value: object) -> str:
        """Return a name for a value in the compiled function."""
        name = f"k{len(self.constants)}"
        self.constants[name] = value
        return name

    def condition(self, node: tree.Condition) -> str:
        """Return the source of a condition, in parentheses where needed."""
        if isinstance(node, tree.Always):
            return str(node.value)
        if isinstance(node, tree.All | tree.Any):
            word = " and " if isinstance(node, tree.All) else " or "
            return "(" + (word.join(map(self.condition, node.items)) or str(isinstance(node, tree.All))) + ")"
        if isinstance(node, tree.Not):
            return f"(not {self.condition(node.item)})"
        if isinstance(node, tree.FlagVariable):
            return f"v.get({self.constant(node.name)}, False)"
        return self._leaf(node)

    def _leaf(self, node: tree.Condition) -> str:
        several = [field for field in tree.fields_of(node) if field.source]
        source = self._test(node)
        return f"any({source} for a in {several[0].source})" if several else source

    def _test(self, node: tree.Condition) -> str:
        if isinstance(node, tree.Flag):
            return node.field.getter
        if isinstance(node, tree.Compare):
            return f"({self._number(node.left)} {_checked(node.operator)} {self._number(node.right)})"
        if isinstance(node, tree.Member):
            return f"({self._number(node.left)} in {self.constant(node.values)})"
        if isinstance(node, tree.Match):
            return self._match(node.field, node.matcher)
        if isinstance(node, tree.Ends):
            ends = self.constant(node.matcher.ends)
            return f"({ends}({node.field.getter}) is not {not node.wanted})"
        if isinstance(node, tree.Same):
            return f"({self._text(node.left)} == {self._text(node.right)})"
        if isinstance(node, tree.InVariable):
            return f"({self._value(node.item)} in v.get({self.constant(node.name)}, ()))"
        raise AssertionError(node)

    def _number(self, node: tree.Ints) -> str:
        if isinstance(node, tree.IntConst):
            return f"({int(node.value)})"
        if isinstance(node, tree.IntField):
            return node.field.getter
        if isinstance(node, tree.IntVariable):
            return f"v.get({self.constant(node.name)}, 0)"
        return f"({self._number(node.left)} {_checked(node.operator)} {self._number(node.right)})"

    def _text(self, node: tree.Texts) -> str:
        if isinstance(node, tree.TextField):
            return node.field.getter
        if isinstance(node, tree.TextVariable):
            return f"v.get({self.constant(node.name)}, b'')"
        pieces = [
            self.constant(part) if isinstance(part, bytes) else self._piece(part) for part in node.parts
        ]
        return f"b''.join(({''.join(f'{piece}, ' for piece in pieces)}))"

    def _piece(self, part: tree.Ints | tree.TextField | tree.TextVariable) -> str:
        if isinstance(part, tree.TextField | tree.TextVariable):
            return self._text(part)
        return f"str({self._number(part)}).encode()"

    def _value(self, node: tree.Ints | tree.Texts) -> str:
        if isinstance(node, tree.TextField | tree.TextVariable | tree.Template):
            return self._text(node)
        return self._number(node)

    def _match(self, field: Field, matcher: Matcher) -> str:
        tests: list[str] = []
        if len(matcher.exact) == 1:
            tests.append(f"{field.getter} == {self.constant(next(iter(matcher.exact)))}")
        elif matcher.exact:
            tests.append(f"{field.getter} in {self.constant(matcher.exact)}")
        below = tuple(prefix for prefix in map(_subtree, matcher.patterns) if prefix)
        if below:
            tests.append(f"{field.getter}.startswith({self.constant(below)})")
        tests += [self._pattern(field, pattern) for pattern in matcher.patterns if not _subtree(pattern)]
        return "(" + (" or ".join(tests) or "False") + ")"

    def _pattern(self, field: Field, pattern: Pattern) -> str:
        """Return the test of a pattern; a glob with one `*` is compared without an automaton."""
        getter = field.getter
        pieces = pattern.text.split(b"*")
        if pattern.kind == "regex" or len(pieces) != 2:
            return f"{self.constant(pattern.matches)}({getter})"
        head, tail = (self.constant(piece) for piece in pieces)
        ends = f"{getter}.startswith({head}) and {getter}.endswith({tail})"
        ends += f" and len({getter}) >= {len(pattern.text) - 1}"
        if not pattern.path:
            return f"({ends})"
        slashes = self.constant(b"/")
        return f"({ends} and {getter}.count({slashes}) == {pattern.text.count(b'/')})"


def _subtree(pattern: Pattern) -> bytes:
    """Return `/etc/` for the glob `/etc/**`, else b""."""
    head, stars, tail = pattern.text.partition(b"**")
    plain = pattern.kind == "glob" and stars and not tail.strip(b"*") and b"*" not in head
    return head if plain else b""


def _checked(operator: str) -> str:
    if operator not in _PYTHON:
        raise AssertionError(operator)
    return operator


def predicate(condition: tree.Condition) -> Callable[[Event, Context, Variables], bool]:
    """Compile one condition to a function of event, context and variables."""
    compiler = Compiler()
    source = f"def judge(e, x, v):\n    return {compiler.condition(condition)}\n"
    function: Callable[[Event, Context, Variables], bool] = _compile(source, compiler)
    return function


def reader(field: Field) -> Callable[[Event, Context, Variables], Anything]:
    """Compile a function that reads one single-valued field."""
    function: Callable[[Event, Context, Variables], Anything]
    function = _compile(f"def judge(e, x, v):\n    return {field.getter}\n", Compiler())
    return function


def judge(
    conditions: Iterable[tuple[Name, tree.Condition]],
) -> Callable[[Event, Context, Variables], list[Name]]:
    """Compile conditions with names to one function, which returns the names of those that hold, in order."""
    compiler = Compiler()
    body: list[str] = ["    hits = []"]
    for name, condition in conditions:
        body.append(f"    if {compiler.condition(condition)}: hits.append({compiler.constant(name)})")
    text = "\n".join([*body, "    return hits"])
    text, first = _hoist(text)
    function: Callable[[Event, Context, Variables], list[Name]]
    function = _compile(f"def judge(e, x, v):\n{first}{text}\n", compiler)
    return function


def _hoist(text: str) -> tuple[str, str]:
    """Read frequently used fields once, into local variables.

    Match whole words, because `e.file.flags` ends in `e.flags` too.
    """
    first = ""
    for number, getter in enumerate(_HOISTED):
        word = rf"\b{re.escape(getter)}\b"
        if len(re.findall(word, text)) > 1:
            text = re.sub(word, f"h{number}", text)
            first += f"    h{number} = {getter}\n"
    return text, first


def _compile(source: str, compiler: Compiler) -> Anything:
    exec(compile(source, "<rules>", "exec"), compiler.constants)  # noqa: S102 - see the module's docstring
    return compiler.constants["judge"]
