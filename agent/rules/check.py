"""Checks a syntax tree and turns it into a typed tree.

Resolves names and checks types. Records every fault, not only the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.events.model import EventType
from agent.rules import constants, fields, matching, syntax, tree
from agent.rules.followed import Followed
from agent.rules.operands import INTS, MAX_MACROS, TEXTS, Items, Operand, Reader, Stop, VariableList, describe
from agent.rules.parser import MAX_DEPTH
from agent.rules.patterns import Matcher
from agent.rules.scope import Fault, Macro, Scope, Variable, belongs_to, supported_events, unknown_event
from agent.rules.syntax import Node

_MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
_ORDER = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
_ANY_PATH_HINT = "write it on the left of ==, != or in, and constant paths on the right"
_NEGATIVE = {"!=": "==", "!~": "=~", "not in": "in"}


class Checked(NamedTuple):
    """The condition of an expression for each of its event types, its faults, and the number of its parts."""

    conditions: dict[EventType, tree.Condition]
    faults: list[Fault]
    work: int


def check(
    node: Node,
    macros: Mapping[str, Macro],
    variables: Mapping[str, Variable],
    followed: Followed | None = None,
) -> Checked:
    """Check an expression and return its conditions by event type; none if it has faults.

    `followed` looks up the files of `any_path`, and remembers them.
    """
    followed = followed or Followed()
    kinds, faults = _kinds(node, macros)
    if _depth(node, macros, {}) > MAX_DEPTH:
        message = f"nested more than {MAX_DEPTH} levels deep, macros expanded"
        return Checked({}, [Fault(message, node.at, node.end, "nest less, or use fewer macros")], 0)
    conditions: dict[EventType, tree.Condition] = {}
    work = 0
    for kind in kinds:
        checker = Checker(Scope(kind, dict(macros), dict(variables), followed))
        conditions[kind] = checker.whole(node)
        work += checker.work
        faults += [fault for fault in checker.faults if fault not in faults]
    faults.sort(key=lambda fault: fault.at)
    return Checked({} if faults else conditions, faults, work)


def _depth(node: Node, macros: Mapping[str, Macro], known: dict[str, int], level: int = 0) -> int:
    """Return the levels of an expression, macros expanded; of a macro that uses itself, some number."""
    deepest = 0
    for part, depth in syntax.walk(node):
        deepest = max(deepest, depth)
        macro = macros.get(part.text) if isinstance(part, syntax.Name) else None
        if macro is None or level > MAX_MACROS:
            continue
        if macro.name not in known:
            known[macro.name] = 0
            known[macro.name] = _depth(macro.node, macros, known, level + 1)
        deepest = max(deepest, depth + known[macro.name])
    return deepest


def _kinds(node: Node, macros: Mapping[str, Macro]) -> tuple[tuple[EventType, ...], list[Fault]]:
    """Return the event types of an expression (one, all of `fim.write`, or none) and the faults."""
    named = _events_named(node, macros)
    known = fields.event_types()
    faults = [
        Fault(message, use.at, use.end, hint)
        for label, (name, use) in named.items()
        if label not in {*known, "fim"}
        for message, hint in (unknown_event(name),)
    ]
    labels = [label for label in named if label in known or label == "fim"]
    if len(labels) > 1:
        use = named[labels[1]][1]
        message = f"a rule has one event type; this one uses fields of {labels[0]} and of {labels[1]}"
        faults.append(Fault(message, use.at, use.end, "write one rule for each, or use fim.write.file.*"))
    if not labels and not faults:
        hint = f"use a field of an event type, such as open.file.path; {supported_events()}"
        faults.append(Fault("the expression names no event type", node.at, node.end, hint))
    if not labels:
        return (), faults
    return (fields.WRITES if labels[0] == "fim" else (known[labels[0]],)), faults


def kinds_of(node: Node, macros: Mapping[str, Macro]) -> tuple[EventType, ...]:
    """Return the event types of an expression; none if it names none."""
    return _kinds(node, macros)[0]


def _events_named(node: Node, macros: Mapping[str, Macro]) -> dict[str, tuple[str, Node]]:
    """Return the first word of each field used, also in macros, with the field and the node that uses it."""
    named: dict[str, tuple[str, Node]] = {}
    pending = [(name, name) for name, _ in syntax.walk(node) if isinstance(name, syntax.Name)]
    seen: set[str] = set()
    while pending:
        name, use = pending.pop(0)
        macro = macros.get(name.text)
        if macro is None:
            label = belongs_to(name.text)
            if label:
                named.setdefault(label, (name.text, use))
        elif macro.name not in seen:
            seen.add(macro.name)
            pending += [
                (inner, use) for inner, _ in syntax.walk(macro.node) if isinstance(inner, syntax.Name)
            ]
    return named


class Checker(Reader):
    """Checks one expression in one scope."""

    def whole(self, node: Node) -> tree.Condition:
        """Return the condition of a whole expression; FALSE if it has faults."""
        try:
            condition = self.condition(node)
            for field in tree.fields_of(condition):
                if fields.is_any_path(field):
                    raise self.fault(f"`{field.name}` is compared with something else", node, _ANY_PATH_HINT)
            if "fim" in _events_named(node, self.scope.macros):
                condition = self._fim(node, condition)
            elif self.scope.kind is EventType.RENAME:
                condition = self._exchange(node, condition)
        except Stop:
            return tree.FALSE
        return tree.push(condition)

    def _fim(self, node: Node, condition: tree.Condition) -> tree.Condition:
        """Apply `fim.write`: of opens only those that may write; of two files, either may match."""
        if self.scope.kind is EventType.OPEN:
            flags = tree.IntField(fields.of_event(EventType.OPEN)["open.flags"])
            writes = tree.IntOp("&", flags, tree.IntConst(constants.WRITE_FLAGS))
            return tree.All((condition, tree.Compare("!=", writes, tree.IntConst(0))))
        if self.scope.kind not in (EventType.RENAME, EventType.LINK) or self.scope.slot != "file":
            return condition
        return tree.Any((condition, self._again(node, self.scope._replace(slot="file.destination"))))

    def _exchange(self, node: Node, condition: tree.Condition) -> tree.Condition:
        """Let an exchange, which is two renames, match if the expression holds for one of them.

        The caller chooses which file it names first. A condition that reads neither file stays as it is.
        """
        other = self._again(node, self.scope._replace(swapped=True))
        if other == condition:
            return condition
        flags = tree.IntField(fields.of_event(EventType.RENAME)["rename.flags"])
        exchange = tree.IntOp("&", flags, tree.IntConst(constants.RENAME_FLAGS["RENAME_EXCHANGE"]))
        return tree.Any((condition, tree.All((tree.Compare("!=", exchange, tree.IntConst(0)), other))))

    def _again(self, node: Node, scope: Scope) -> tree.Condition:
        """Return the condition of a node with other names; what it costs and its faults count as well."""
        other = Checker(scope)
        try:
            return other.condition(node)
        finally:
            self.work += other.work
            self.faults += other.faults

    def condition(self, node: Node) -> tree.Condition:
        """Return the condition of a node. Raises Stop after recording a fault."""
        self.spend(node)
        if isinstance(node, syntax.Group):
            return self.condition(node.inner)
        if isinstance(node, syntax.Logic):
            return self._logic(node)
        if isinstance(node, syntax.Unary) and node.operator == "!":
            return _invert(self.condition(node.operand))
        if isinstance(node, syntax.Binary) and node.operator not in ("+", "-", "&", "|", "^"):
            return self._comparison(node)
        return self._bare(node)

    def _logic(self, node: syntax.Logic) -> tree.Condition:
        items: list[tree.Condition] = []
        for item in node.items:
            try:
                items.append(self.condition(item))
            except Stop:  # continue: the next item may have a fault of its own
                continue
        if len(items) < len(node.items):
            raise Stop
        return _join(node.operator, items)

    def _bare(self, node: Node) -> tree.Condition:
        if isinstance(node, syntax.Name) and node.text in self.scope.macros:
            with self.within(node.text, node):
                return self.condition(self.scope.macros[node.text].node)
        value: Operand = self.name(node) if isinstance(node, syntax.Name) else self.operand(node)
        if isinstance(value, tree.Always | tree.Flag | tree.FlagVariable):
            return value
        raise self.fault(f"{describe(value)} is not a condition", node, "compare it with a value")

    def _comparison(self, node: syntax.Binary) -> tree.Condition:
        positive = _NEGATIVE.get(node.operator)
        if positive is not None and positive != "==":
            return _invert(self._comparison(node._replace(operator=positive)))
        left, right = self._both(node)
        if node.operator == "in":
            return self._member(node, left, right)
        if node.operator == "=~":
            return self._like(node, left, right)
        if positive == "==" and not (isinstance(left, INTS) and isinstance(right, INTS)):
            return _invert(self._equal(node, left, right))
        return self._equal(node, left, right) if node.operator == "==" else self._order(node, left, right)

    def _both(self, node: syntax.Binary) -> tuple[Operand, Operand]:
        """Return both operands; faults of both are recorded."""
        sides: list[Operand] = []
        for side in (node.left, node.right):
            try:
                sides.append(self.operand(side))
            except Stop:
                continue
        if len(sides) < 2:
            raise Stop
        return sides[0], sides[1]

    def _equal(self, node: syntax.Binary, left: Operand, right: Operand) -> tree.Condition:
        if isinstance(left, syntax.Text) and isinstance(right, TEXTS):
            left, right = right, left
        if isinstance(left, INTS) and isinstance(right, INTS):
            return self._ints(node, "==", left, right)
        if isinstance(left, TEXTS) and isinstance(right, syntax.Text):
            return self._match(node, left, (right,))
        if isinstance(left, TEXTS) and isinstance(right, TEXTS):
            return self._same(node, left, right)
        if isinstance(left, matching.CONDITIONS) and isinstance(right, matching.CONDITIONS):
            return self._bools(node, left, right)
        raise self._mismatch(node, left, right)

    def _bools(self, node: syntax.Binary, left: tree.Condition, right: tree.Condition) -> tree.Condition:
        if isinstance(left, tree.Always):
            left, right = right, left
        if isinstance(right, tree.Always):
            return left if right.value else tree.Not(left)
        self.spend(node, tree.size(left) + tree.size(right))  # both occur twice below
        both = tree.All((left, right))
        return tree.Any((both, tree.All((tree.Not(left), tree.Not(right)))))

    def _order(self, node: syntax.Binary, left: Operand, right: Operand) -> tree.Condition:
        if isinstance(left, INTS) and isinstance(right, INTS):
            return self._ints(node, node.operator, left, right)
        raise self._mismatch(node, left, right)

    def _ints(self, node: syntax.Binary, operator: str, left: tree.Ints, right: tree.Ints) -> tree.Condition:
        if isinstance(left, tree.IntConst) and isinstance(right, tree.IntConst):
            return tree.Always(_ORDER[operator](left.value, right.value))
        if isinstance(left, tree.IntConst):
            operator, left, right = _MIRROR.get(operator, operator), right, left
        several = [field for field in tree.fields_of(left) | tree.fields_of(right) if field.source]
        if len(several) > 1:
            raise self.fault("two fields with several values cannot be compared", node)
        if several and operator == "!=":  # true if no value is equal, as with strings
            return tree.Not(tree.Compare("==", left, right))
        return tree.Compare(operator, left, right)

    def _mismatch(self, node: syntax.Binary, left: Operand, right: Operand) -> Stop:
        message = f"{describe(left)} cannot be compared with {describe(right)} by {node.operator}"
        hint = "use `in` to compare with a list" if isinstance(right, Items) else ""
        if isinstance(left, TEXTS) and isinstance(right, (*TEXTS, syntax.Text)):
            hint = "strings have no order; use == != =~ !~ or in"
        return self.fault(message, node, hint)

    def _like(self, node: syntax.Binary, left: Operand, right: Operand) -> tree.Condition:
        if isinstance(left, TEXTS) and isinstance(right, syntax.Text):
            glob = right._replace(kind="glob") if right.kind == "string" else right
            return self._match(node, left, (glob,))
        if isinstance(left, TEXTS):
            raise self.fault(f"=~ takes a pattern, not {describe(right)}", node.right)
        raise self.fault(f"{describe(left)} cannot match a pattern", node.left)

    def _member(self, node: syntax.Binary, left: Operand, right: Operand) -> tree.Condition:
        if isinstance(right, VariableList) and isinstance(left, INTS + TEXTS):
            return self._in_variable(node, left, right)
        if not isinstance(right, Items):
            raise self.fault(f"`in` takes a list, not {describe(right)}", node.right)
        if isinstance(left, INTS):
            return self._in_numbers(node, left, right)
        if not isinstance(left, TEXTS):
            raise self.fault(f"{describe(left)} cannot be looked up in a list", node.left)
        texts = [item for item in right.items if isinstance(item, syntax.Text)]
        if len(texts) == len(right.items):
            return self._match(node, left, tuple(texts))
        odd = next(item for item in right.items if not isinstance(item, syntax.Text))
        if isinstance(odd, TEXTS):  # a list that contains variables: compare with each item
            return tree.Any(tuple(self._equal(node, left, item) for item in right.items))
        raise self.fault(f"{describe(left)} cannot be in a list with {describe(odd)}", node)

    def _in_variable(
        self, node: syntax.Binary, left: tree.Ints | tree.Texts, right: VariableList
    ) -> tree.Condition:
        wanted = fields.INT if isinstance(left, INTS) else fields.TEXT
        if right.type != wanted:
            raise self.fault(f"`${{{right.name}}}` collects values of type {right.type}", node.right)
        self._single(node, left)
        return tree.InVariable(left, right.name)

    def _in_numbers(self, node: syntax.Binary, left: tree.Ints, right: Items) -> tree.Condition:
        values = frozenset(item.value for item in right.items if isinstance(item, tree.IntConst))
        if not all(isinstance(item, tree.IntConst) for item in right.items):
            odd = next(item for item in right.items if not isinstance(item, tree.IntConst))
            raise self.fault(f"{describe(left)} cannot be in a list with {describe(odd)}", node)
        if isinstance(left, tree.IntConst):
            return tree.Always(left.value in values)
        return tree.Member(left, values)

    def _match(self, node: syntax.Binary, left: tree.Texts, texts: tuple[syntax.Text, ...]) -> tree.Condition:
        """Compare a text with constants: a field by one matcher, any other text with each constant."""
        if isinstance(left, tree.TextField):
            matcher, complaints = matching.matcher(left.field, texts)
            for complaint in complaints:
                self.fault(complaint.message, complaint.text, complaint.hint)
            if complaints:
                raise Stop
            if fields.is_any_path(left.field):
                return self._any_path(node, left.field, matcher)
            return tree.Match(left.field, matcher)
        if any(text.kind != "string" for text in texts):
            raise self.fault("only a field can match a pattern", node)
        return tree.Any(tuple(tree.Same(left, tree.Template((text.value,))) for text in texts))

    def _any_path(self, node: syntax.Binary, field: fields.Field, matcher: Matcher) -> tree.Condition:
        """Compare the path, and the file with those that the paths lead to now."""
        if matcher.patterns:
            raise self.fault(
                f"`{field.name}` is compared with paths, not with patterns", node, _ANY_PATH_HINT
            )
        path, inode, device = fields.siblings(field, self.scope.kind)
        targets = [target for each in sorted(matcher.exact) if (target := self.scope.followed.follow(each))]
        exact = matcher.exact.union(target.path for target in targets)
        items: list[tree.Condition] = [tree.Match(path, Matcher(exact))]
        if inode:
            items += [
                tree.All(
                    (
                        tree.Compare("==", tree.IntField(inode), tree.IntConst(target.inode)),
                        tree.Compare("==", tree.IntField(device), tree.IntConst(target.device)),
                    )
                )
                for target in dict.fromkeys(target._replace(path=b"") for target in targets)
            ]
        return tree.Any(tuple(items))

    def _same(self, node: syntax.Binary, left: tree.Texts, right: tree.Texts) -> tree.Condition:
        self._single(node, left)
        if isinstance(right, tree.TextField) and right.field.source:
            left, right = right, left
        several = [field for field in tree.fields_of(left) | tree.fields_of(right) if field.source]
        if len(several) > 1:
            raise self.fault("two fields with several values cannot be compared", node)
        return tree.Same(left, right)

    def _single(self, node: syntax.Binary, value: tree.Ints | tree.Texts) -> None:
        if len([field for field in tree.fields_of(value) if field.source]) > 1:
            raise self.fault("two fields with several values cannot be combined", node)


def _invert(condition: tree.Condition) -> tree.Condition:
    return tree.Always(not condition.value) if isinstance(condition, tree.Always) else tree.Not(condition)


def _join(operator: str, items: list[tree.Condition]) -> tree.Condition:
    """Join conditions by `&&` or `||`, without those that are constant."""
    neutral = operator == "&&"
    if any(isinstance(item, tree.Always) and item.value is not neutral for item in items):
        return tree.Always(not neutral)
    kept = tuple(item for item in items if not isinstance(item, tree.Always))
    if len(kept) < 2:
        return kept[0] if kept else tree.Always(neutral)
    return tree.All(kept) if neutral else tree.Any(kept)
