"""A second evaluator of rule expressions, written from docs/rules.md alone and independent of `agent`.

An event maps names of fields to numbers, texts or lists of them; a text holds the bytes of a name with
`surrogateescape`. Fields such as `open.file.path` give the event's type. A field that it lacks is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from itertools import product

from tests.campaigns.law import naive_changes, naive_words
from tests.campaigns.law.naive_patterns import RefusedError, UndefinedError
from tests.campaigns.law.naive_values import (
    Event,
    Node,
    Token,
    all_of,
    any_of,
    as_bytes,
    as_glob,
    field,
    possible,
    tokens,
    used,
    value,
)

Macros = Mapping[str, str | Sequence[str]]
Known = bool | None
KINDS = {int: "number", bytes: "text", bool: "bool"}

DEEPEST = 16  # macros


def matches(expression: str, event: Event, macros: Macros | None = None) -> Known:
    """Return whether an event matches, or None where docs/rules.md does not say or the event lacks a field.

    :param event: values by field; a variable that an action stored is `${name}`
    """
    try:
        return evaluate(expression, event, macros)
    except UndefinedError:
        return None


def evaluate(expression: str, event: Event, macros: Macros | None = None) -> Known:
    """Return as `matches` does, and say what is not defined.

    :raises RefusedError: the page says that the expression does not load
    :raises UndefinedError: the page does not say what it means
    """
    known = _evaluate(expression, event, macros)
    cut = [name.removesuffix("truncated") + "path" for name in event if _is_cut(event, name)]
    if not cut:
        return known
    wholes = _wholes(expression, event, cut)
    return True if any(_evaluate(expression, whole, macros) for whole in wholes) else None


def _is_cut(event: Event, name: str) -> bool:
    return name.endswith(".truncated") and event[name] is True


def _wholes(expression: str, event: Event, cut: Sequence[str]) -> Iterator[Event]:
    """Yield events with whole paths in place of those of which only the end is known.

    The missing beginnings are the directories of the expression's texts: for any of them the event matches.
    """
    named = [text.replace("*", "a").split("/")[:-1] for text in re.findall(r'"\^?(/[^"\\$]*)"', expression)]
    beginnings = {"/".join(parts[:count]) for parts in named for count in range(len(parts) + 1)} | {"", "/a"}
    known = [name for name in cut if event.get(name)]  # of an empty end the name is not known
    for chosen in product(sorted(beginnings), repeat=len(known)):
        pairs = zip(known, chosen, strict=True)
        yield {**event, **{name: f"{beginning}/{event[name]}" for name, beginning in pairs}}


def _evaluate(expression: str, event: Event, macros: Macros | None) -> Known:
    """Evaluate for the event, and for an exchange of two files also for the rename of the second one."""
    known = _read(expression, event, macros)
    exchanged = naive_changes.exchanged(event)
    if known is True or exchanged is False:
        return known
    return any_of([known, all_of([exchanged, _read(expression, naive_changes.swapped(event), macros)])])


def _read(expression: str, event: Event, macros: Macros | None) -> Known:
    key = tuple(
        (name, macro if isinstance(macro, str) else tuple(macro)) for name, macro in (macros or {}).items()
    )
    kind = next(
        (first for name in event if (first := name.split(".", 1)[0]) in naive_words.event_types()), ""
    )
    variables = frozenset(name[2:-1] for name in event if name.startswith("$"))
    results = []
    for files in naive_words.WRITES.get(kind, ("",)):
        node = compiled(expression, key, files, variables)
        if isinstance(node, UndefinedError):
            raise node
        if kind not in node.types:
            return False
        known: object = node.read(event)
        if kind == "open" and len(node.types) > 1:
            known = all_of([known, _for_writing(event)])
        results.append(known)
    result = any_of(results)
    if result is False and kind in naive_changes.CHANGED:
        return naive_changes.changes_above(expression, kind, event)
    return result


def _for_writing(event: Event) -> Known:
    flags = event.get("open.flags")
    names = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND")
    return any(flags & naive_words.OPEN_FLAGS[name] for name in names) if isinstance(flags, int) else None


@lru_cache(100_000)
def compiled(
    expression: str,
    macros: tuple[tuple[str, str | tuple[str, ...]], ...],
    files: str,
    variables: frozenset[str],
) -> Node | UndefinedError:
    """Return the whole expression as one truth value, or why it has none.

    :param files: what `fim.write.file` stands for
    """
    try:
        return _whole(expression, dict(macros), files, variables)
    except UndefinedError as error:
        return error


def _whole(expression: str, macros: Macros, files: str, variables: frozenset[str]) -> Node:
    node = Parser(tokens(expression), macros, files).whole()
    if unknown := node.variables - variables:
        raise RefusedError(f"no rule sets {unknown}")
    if node.kind != "bool":
        raise UndefinedError("the expression is no condition")
    types = {kind for kind in node.types if not kind.startswith("$")}
    if not types:
        raise RefusedError("no event type")
    if len(types) > 1 or not {f"${kind}" for kind in types} >= node.types - types:
        raise RefusedError("more than one event type")
    return replace(node, types=frozenset(naive_words.WRITES if types == {"fim"} else types))


class Parser:
    """Reads tokens by the page's grammar; each method is one rule of it."""

    def __init__(
        self, words: list[Token], macros: Mapping[str, str | Sequence[str]], files: str, depth: int = 0
    ):
        self.words, self.macros, self.files, self.depth, self.at = words, macros, files, depth, 0

    def whole(self) -> Node:
        node = self.disjunction()
        if self.at < len(self.words):
            raise RefusedError(f"unexpected {self.words[self.at].text!r}")
        return node

    def peek(self, offset: int = 0) -> Token:
        at = self.at + offset
        return self.words[at] if at < len(self.words) else Token("end", "")

    def take(self, kind: str, *texts: str) -> Token | None:
        token = self.peek()
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self.at += 1
        return token

    def disjunction(self) -> Node:
        nodes = [self.conjunction()]
        while self.take("or"):
            nodes.append(self.conjunction())
        if any(node.shape == "and" for node in nodes[:-1]):
            raise RefusedError("a && b || c without parentheses")
        return nodes[0] if len(nodes) == 1 else _logic(nodes, any_of, "or")

    def conjunction(self) -> Node:
        nodes = [self.negation()]
        while self.take("and"):
            nodes.append(self.negation())
        return nodes[0] if len(nodes) == 1 else _logic(nodes, all_of, "and")

    def negation(self) -> Node:
        return _not(self.negation()) if self.take("not") else self.comparison()

    def comparison(self) -> Node:
        left = self.sum()
        if operator := self.take("compare"):
            return compare(left, operator.text, self.sum())
        if operator := self.take("in"):
            return member(left, operator.text, self.sum())
        if self.peek().kind == "not" and self.peek(1).kind == "in":
            self.at += 1
            operator = self.take("in")
            return _not(member(left, operator.text if operator else "", self.sum()))
        return left

    def sum(self) -> Node:
        node = self.bits()
        while operator := self.take("sign", "+", "-"):
            node = replace(arithmetic(operator.text, node, self.bits()), shape="")
        return node

    def bits(self) -> Node:
        node, used = self.unary(), ""
        while operator := self.take("sign", "&", "|", "^"):
            if used not in {"", operator.text}:
                raise RefusedError("different bit operators without parentheses")
            used = operator.text
            node = arithmetic(used, node, self.unary())
        return node

    def unary(self) -> Node:
        if operator := self.take("sign", "-", "^"):
            return arithmetic(operator.text, self.unary())
        return self.atom()

    def atom(self) -> Node:
        token = self.peek()
        self.at += 1
        if token.kind == "sign" and token.text == "(":
            node = self.disjunction()
            self.close(")")
            return replace(node, shape="")
        if token.kind == "sign" and token.text == "[":
            return self.list()
        if token.kind == "name":
            return self.name(token.text)
        return value(token, self.files)

    def close(self, sign: str) -> None:
        if not self.take("sign", sign):
            raise RefusedError(f"{sign} is missing")

    def list(self) -> Node:
        items: list[Node] = []
        if not self.take("sign", "]"):
            items.append(self.disjunction())
            while self.take("sign", ","):
                items.append(self.disjunction())
            self.close("]")
        return Node("list", lambda _: None, items=tuple(items), **used(*items))

    def name(self, name: str) -> Node:
        if name in {"true", "false"}:
            return Node("bool", lambda _: name == "true", constant=True)
        if name in self.macros:
            return self.macro(self.macros[name])
        if name in naive_words.constants():
            number = naive_words.constants()[name]
            return Node("number", lambda _: number, constant=True)
        if name.startswith("fim.write.file."):
            return replace(field(f"{self.files or 'open.file'}.{name[15:]}"), types=frozenset({"fim"}))
        return field(name)

    def macro(self, macro: str | Sequence[str]) -> Node:
        if self.depth == DEEPEST:
            raise RefusedError("macros are nested too deeply")
        if isinstance(macro, str):
            return replace(Parser(tokens(macro), self.macros, self.files, self.depth + 1).whole(), shape="")
        return Node("list", lambda _: None, items=tuple(_listed(item) for item in macro))


def _listed(item: str) -> Node:
    if item.startswith(('~"', 'r"')) and item.endswith('"'):
        return value(tokens(item)[0])
    text = item.encode("utf-8", "surrogateescape")
    return Node("text", lambda _: text, constant=True)


def _logic(nodes: Sequence[Node], join: Callable[[Iterable[object]], Known], shape: str) -> Node:
    if any(node.kind != "bool" for node in nodes):
        raise UndefinedError("a value where a condition is due")
    return Node("bool", lambda event: join([node.read(event) for node in nodes]), **used(*nodes), shape=shape)


def _not(node: Node) -> Node:
    if node.kind != "bool":
        raise UndefinedError("a value where a condition is due")
    return Node("bool", lambda event: _inverted(node.read(event)), **used(node))


def _inverted(known: object) -> Known:
    return None if known is None else not known


def arithmetic(operator: str, *nodes: Node) -> Node:
    """Return a sum, a bit operation or a sign; each value of a field with several values gives one."""
    if any(node.kind not in {"number", "variable"} for node in nodes):
        raise RefusedError(f"{operator} of what is no number")
    if sum(node.many for node in nodes) > 1:
        raise UndefinedError("two fields with several values")
    many = any(node.many for node in nodes)

    def read(event: Event) -> object:
        values = [node.read(event) for node in nodes]
        if any(value is None for value in values):
            return None
        lists = [value if isinstance(value, list) else [value] for value in values]
        results = [_number(operator, [int(str(part)) for part in parts]) for parts in product(*lists)]
        return results if many else results[0]

    constant = all(node.constant for node in nodes)
    return Node("number", read, many, constant=constant, **used(*nodes))


def _number(operator: str, parts: list[int]) -> int:
    if len(parts) == 1:
        return -parts[0] if operator == "-" else ~parts[0]
    return reduce(
        {
            "+": int.__add__,
            "-": int.__sub__,
            "&": int.__and__,
            "|": int.__or__,
            "^": int.__xor__,
        }[operator],
        parts,
    )


def compare(left: Node, operator: str, right: Node) -> Node:
    """Return a comparison: of a field with several values it holds if it holds for one of them.

    :raises RefusedError: the types do not go together
    """
    if operator in {"=~", "!~"}:
        if right.kind == "text" and not right.constant:
            raise RefusedError("a pattern that the event decides")
        if right.kind == "text":
            right = as_glob(as_bytes(right.read({})))
        if right.kind != "pattern":
            raise UndefinedError(f"{operator} without a pattern on its right")
        operator = "==" if operator == "=~" else "!="
    if operator == "!=":
        return _not(compare(left, "==", right))
    if operator == "==":
        return _compared([left, right], equal(left, right))
    if any(node.kind not in {"number", "variable"} for node in (left, right)):
        raise RefusedError("order is for numbers only")
    order: dict[str, Callable[[object, object], bool]] = {
        "<": lambda a, b: int(str(a)) < int(str(b)),
        "<=": lambda a, b: int(str(a)) <= int(str(b)),
        ">": lambda a, b: int(str(a)) > int(str(b)),
        ">=": lambda a, b: int(str(a)) >= int(str(b)),
    }
    return _compared([left, right], order[operator])


def _compared(nodes: Sequence[Node], holds: Callable[[object, object], bool]) -> Node:
    if all(node.many for node in nodes):
        raise UndefinedError("two fields with several values")

    def read(event: Event) -> Known:
        values = [node.read(event) if node.kind != "pattern" else b"" for node in nodes]
        if any(value is None for value in values):
            return None
        for node, read_value in zip(nodes, values, strict=True):
            if node.kind == "variable" and KINDS.get(type(read_value)) not in {other.kind for other in nodes}:
                raise UndefinedError("a variable beside a value of another type, or of several values")
        lists = [value if isinstance(value, list) else [value] for value in values]
        return any(holds(*parts) for parts in product(*lists))

    return Node("bool", read, **used(*nodes))


def equal(left: Node, right: Node) -> Callable[[object, object], bool]:
    """Return what makes values of two nodes equal: the same value, or a match of the pattern.

    :raises RefusedError: the types do not go together, or a path that no file can have
    """
    kinds = {left.kind, right.kind}
    path = left.path or right.path
    for node in (left, right):
        if path and node.kind == "text" and node.constant:
            possible(as_bytes(node.read({})))
    if "list" in kinds or kinds == {"pattern"}:
        raise UndefinedError("== of lists or of patterns")
    if left.constant and right.constant and "text" in kinds:
        raise UndefinedError("== of constant texts")
    if "pattern" in kinds:
        if not kinds & {"text", "variable"}:
            raise RefusedError("a pattern beside what is no text")
        pattern, text = (left, right) if left.kind == "pattern" else (right, left)
        if pattern.matcher is None or text.constant:
            raise UndefinedError("a pattern beside a constant")
        matcher = pattern.matcher(path)
        return lambda a, b: matcher(as_bytes(b if pattern is left else a))
    if len(kinds - {"variable"}) > 1:
        raise RefusedError(f"{left.kind} beside {right.kind}")
    return lambda a, b: a == b


def member(left: Node, operator: str, right: Node) -> Node:
    """Return whether a value, or one value of several, is in a list.

    :raises UndefinedError: `allin`, or neither a list nor a variable on the right
    """
    if operator != "in":
        raise UndefinedError(operator)
    if right.kind == "variable":
        return Node(
            "bool", lambda event: _stored_in(left.read(event), right.read(event)), **used(left, right)
        )
    if right.kind != "list":
        raise UndefinedError("in without a list on its right")
    one = [_compared([left, item], equal(left, item)) for item in _flat(right.items)]
    # An unknown value stays unknown beside an empty list as well: the field is not known to exist.
    return Node("bool", lambda event: any_of(node.read(event) for node in one), **used(left, *one))


def _flat(items: Sequence[Node]) -> Iterator[Node]:
    for item in items:
        if item.kind == "list":
            yield from _flat(item.items)
        else:
            yield item


def _stored_in(value: object, stored: object) -> Known:
    if value is None or stored is None:
        return None
    values = value if isinstance(value, list) else [value]
    return any(item in (stored if isinstance(stored, list) else [stored]) for item in values)
