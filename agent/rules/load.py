"""Loads policy files: links the macros, variables and rules of all files into one rule set."""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.errors import RuleErrors
from agent.events.model import EventType
from agent.rules import ancestors, evaluate, fields, files, hostfacts, links, literals, syntax
from agent.rules import source as yaml_source
from agent.rules.actions import SetAction, Store
from agent.rules.builder import ParseError
from agent.rules.check import Checked, check, kinds_of
from agent.rules.constants import table
from agent.rules.engine import CompiledRule, Rule, Ruleset
from agent.rules.fields import Field
from agent.rules.followed import Followed, Named
from agent.rules.parser import parse
from agent.rules.policy import EntryKey, MacroDraft, Policy, PolicyReader, RuleDraft, SetDraft
from agent.rules.problems import Problem, Problems, TooManyError, clean
from agent.rules.scope import Fault, Macro, Variable
from agent.rules.source import Scalar, Source
from agent.rules.trust import read_trusted

Contents = Sequence[tuple[str, bytes]]

MAX_ROUNDS = 16  # in which entries with errors are left out, and then what needs them
MAX_TOTAL_WORK = 1_000_000  # parts of all expressions, macros expanded


def load(paths: Iterable[Path | str], *, leave_out: bool = False) -> Ruleset:
    """Load files, and the rule files in directories.

    Raises RuleErrors with all errors of all files, and UsageError for a file that does not exist or that
    another user can write. With `leave_out` entries with errors are left out, and listed in the rule set.
    """
    found = files.find(map(Path, paths))
    contents = [
        (str(path), read_trusted(path, yaml_source.MAX_BYTES + 1)) for path in dict.fromkeys(found.paths)
    ]
    return _whole(contents, found.notes, None, leave_out=leave_out)


def _whole(contents: Contents, notes: Iterable[str], variables: Store | None, *, leave_out: bool) -> Ruleset:
    """Link contents, and add what belongs to a rule set of files; `variables` are those of the set before."""
    rules = link_good(contents) if leave_out else link(contents)
    rules.variables = variables or rules.variables
    linked = links.Warnings(rules)
    rules.notes += (*notes, *linked.lines, *map(_silent, sorted(rules.followed.silent)))
    rules.new_notes = linked.new
    rules.digest = hashlib.sha256(b"".join(content for _, content in contents)).hexdigest()
    if rules.followed.files:  # only then the texts stay in memory
        rules.renew = functools.partial(_whole, contents, notes, rules.variables, leave_out=leave_out)
    return rules


def _silent(path: bytes) -> str:
    name = path.decode("utf-8", "backslashreplace")
    return clean(f"the file at {name} is not followed yet: a file system on the way does not answer")


def loads(text: str, name: str = "<rules>") -> Ruleset:
    """Load the rules of one text. Raises RuleErrors."""
    return link([(name, text.encode("utf-8", "surrogateescape"))])


Facts = Mapping[str, hostfacts.Fact]


def link(contents: Contents, facts: Facts | None = None) -> Ruleset:
    """Link the contents of several files, given as (name, content). Raises RuleErrors."""
    reader = PolicyReader(hostfacts.facts() if facts is None else facts)
    rules, followed = _link(reader, contents)
    if reader.problems.found:
        raise RuleErrors(_sorted(reader.problems.found, contents))
    ruleset = Ruleset(rules)
    ruleset.followed = followed
    return ruleset


def link_good(contents: Contents, facts: Facts | None = None) -> Ruleset:
    """Link like `link`, without the entries that have errors; these errors are `left_out` of the rule set.

    An entry that needs one that was left out (its macro, its variable, the rule that it overrides) has an
    error then, so all is read again until no error is left. Raises RuleErrors if that does not end or if no
    rule is left.
    """
    known = hostfacts.facts() if facts is None else facts
    without: frozenset[EntryKey] = frozenset()
    left_out: list[Problem] = []
    for _ in range(MAX_ROUNDS):
        reader = PolicyReader(known, without)
        rules, followed = _link(reader, contents)
        outside = set(reader.outside)
        inside = [problem for problem in reader.problems.found if problem not in outside]
        if not inside and (rules or not (left_out or outside)):
            ruleset = Ruleset(rules, _sorted([*left_out, *reader.outside], contents))
            ruleset.followed = followed
            return ruleset
        blamed = without.union(key for problem in inside if (key := reader.entry_of(problem)))
        if blamed == without:
            break
        left_out += inside
        without = blamed
    raise RuleErrors(_sorted(dict.fromkeys([*left_out, *reader.problems.found]), contents))


def _link(reader: PolicyReader, contents: Contents) -> tuple[list[CompiledRule], Followed]:
    """Return the compiled rules, and the files that they follow."""
    linker = _Linker(reader.problems)
    with contextlib.suppress(TooManyError):
        policies = [reader.read(name, data) for name, data in contents]
        return linker.rules(policies), linker.followed
    return [], linker.followed


def _sorted(problems: Iterable[Problem], contents: Contents) -> list[Problem]:
    order = {name: number for number, (name, _) in enumerate(contents)}
    return sorted(problems, key=lambda each: (order[each.file], each.line, each.column))


class _Parsed(NamedTuple):
    """A draft of a rule with its syntax tree."""

    draft: RuleDraft
    node: syntax.Node


class _Linker:
    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.followed = Followed()
        self._work = 0  # parts of all expressions so far, macros expanded
        self._macros: dict[str, Macro] = {}
        self._variables: dict[str, Variable] = {}

    def rules(self, policies: Sequence[Policy]) -> list[CompiledRule]:
        """Return every rule that is not disabled or overridden, compiled for each of its event types."""
        for policy in policies:
            for macro in policy.macros:
                self._macro(macro)
        drafts = self._unique([draft for policy in policies for draft in policy.rules])
        parsed = [
            _Parsed(draft, node)
            for draft in drafts
            if draft.expression is not None and (node := self._parse(draft.source, draft.expression))
        ]
        sets = [self._sets(rule) for rule in parsed]
        self._look_up_files(policies, parsed)
        return [
            rule for each, actions in zip(parsed, sets, strict=True) for rule in self._rule(each, actions)
        ]

    def _look_up_files(self, policies: Sequence[Policy], parsed: Iterable[_Parsed]) -> None:
        """Look up the files of all rules at once: one that does not answer delays each lookup after it."""
        texts = [draft.expression for policy in policies for draft in policy.macros]
        texts += [draft.expression for policy in policies for draft in policy.rules]
        if not any(text and fields.ANY_PATH in text.value for text in texts):
            return
        named, work = Named(), 0
        for rule in parsed:
            if work <= MAX_TOTAL_WORK:
                work += check(rule.node, self._macros, self._variables, named).work
        self.followed.look_up(named.files)

    def _problem(self, source: Source, scalar: Scalar, message: str, hint: str = "") -> None:
        self.problems.add(source.problem(scalar.at, message, hint, scalar.end - scalar.at))

    def _fault(self, source: Source, scalar: Scalar, fault: Fault) -> None:
        at = yaml_source.offset(source, scalar, fault.at)
        self.problems.add(source.problem(at, fault.message, fault.hint, fault.end - fault.at))

    def _parse(self, source: Source, expression: Scalar) -> syntax.Node | None:
        try:
            return parse(expression.value)
        except ParseError as error:
            self._fault(source, expression, Fault(error.message, error.at, error.end, error.hint))
            return None

    def _macro(self, draft: MacroDraft) -> None:
        name = draft.id.value
        known = self._macros.get(name)
        if known is not None and not draft.combine:
            hint = "add `combine: merge` to extend it or `combine: override` to replace it"
            self._problem(draft.source, draft.id, f"macro `{name}` is already defined", hint)
            return
        if name in table() or name in ("true", "false"):
            self._problem(draft.source, draft.id, f"`{name}` is the name of a constant", "choose another id")
            return
        node = self._macro_node(draft)
        if node is None:
            return
        if known is not None and draft.combine == "merge":
            before = known.node.items if isinstance(known.node, syntax.Sequence) else (known.node,)
            node = syntax.Sequence(0, 1, (*before, node))
        self._macros[name] = Macro(name, node)

    def _macro_node(self, draft: MacroDraft) -> syntax.Node | None:
        if draft.expression is not None:
            return self._parse(draft.source, draft.expression)
        return syntax.Sequence(0, 1, tuple(_macro_value(value.value) for value in draft.values))

    def _unique(self, drafts: list[RuleDraft]) -> list[RuleDraft]:
        """Combine entries of the same id.

        A later entry with `combine: override` replaces the keys that it gives; `disabled` in any entry
        removes the rule.
        """
        disabled = {draft.id.value for draft in drafts if draft.disabled}
        combined: dict[str, RuleDraft] = {}
        for draft in drafts:
            name = draft.id.value
            if name in disabled:
                continue
            if name in combined and not draft.override:
                first = combined[name]
                where = f"{first.source.name}:{first.source.line(first.id.at)}"
                hint = f"the first is at {where}; add `combine: override` to replace it"
                self._problem(draft.source, draft.id, f"rule `{name}` is already defined", hint)
                continue
            if name not in combined and draft.expression is None:
                hint = "add an expression, or load the file with the rule before this one"
                self._problem(draft.source, draft.id, f"no rule `{name}` to override", hint)
                continue
            combined[name] = draft.over(combined[name]) if name in combined else draft
        return list(combined.values())

    def _rule(self, parsed: _Parsed, sets: tuple[SetAction, ...]) -> list[CompiledRule]:
        draft, node = parsed
        assert draft.expression is not None
        if self._work > MAX_TOTAL_WORK:
            message = f"the rules before this one have more than {MAX_TOTAL_WORK} parts, macros expanded"
            self._problem(draft.source, draft.id, message)
            return []
        checked: Checked = check(node, self._macros, self._variables, self.followed)
        self._work += checked.work
        for fault in checked.faults:
            self._fault(draft.source, draft.expression, fault)
        rule = Rule(
            id=draft.id.value,
            expression=draft.expression.value,
            description=draft.description,
            tags=draft.tags,
            file=draft.source.name,
            line=draft.source.line(draft.id.at),
            every_ns=draft.every_ns,
            silent=draft.silent,
            hash=draft.hash,
            sets=sets,
        )
        return [
            CompiledRule(rule.id, kind, ancestors.extend(kind, condition), rule)
            for kind, condition in checked.conditions.items()
        ]

    def _sets(self, parsed: _Parsed) -> tuple[SetAction, ...]:
        found = [self._set(parsed, each) for each in parsed.draft.sets]
        return tuple(action for action in found if action is not None)

    def _set(self, parsed: _Parsed, draft: SetDraft) -> SetAction | None:
        source = draft.source
        if not draft.name.value.replace("_", "a").isalnum() or draft.name.value[:1].isdigit():
            self._problem(
                source,
                draft.name,
                f"`{draft.name.value}` is not a valid variable name",
                "use letters, digits and _",
            )
            return None
        if draft.value is not None:
            try:
                value = _constant(draft.value)
            except literals.BadLiteralError as error:
                self._problem(source, draft.value, str(error))
                return None
            kind = (
                fields.BOOL
                if isinstance(value, bool)
                else fields.INT
                if isinstance(value, int)
                else fields.TEXT
            )
            return self._declare(source, draft, kind, SetAction(draft.name.value, value, None, draft.append))
        assert draft.field is not None
        field = self._field(parsed, source, draft.field)
        if field is None:
            return None
        reads = evaluate.reader(field)
        return self._declare(
            source, draft, field.type, SetAction(draft.name.value, False, reads, draft.append)
        )

    def _field(self, parsed: _Parsed, source: Source, name: Scalar) -> Field | None:
        kinds: tuple[EventType, ...] = kinds_of(parsed.node, self._macros)
        found = [fields.lookup(name.value, kind) for kind in kinds]
        field = found[0] if len(found) == 1 else None
        if field is None or field.source:
            message = f"`{name.value}` is not a single-valued field of this rule's event type"
            self._problem(source, name, message)
            return None
        return field

    def _declare(self, source: Source, draft: SetDraft, kind: str, action: SetAction) -> SetAction | None:
        variable = Variable(draft.name.value, kind, draft.append)
        if self._variables.setdefault(variable.name, variable) != variable:
            self._problem(source, draft.name, f"another rule sets `{variable.name}` to another type")
            return None
        return action


def _macro_value(value: str) -> syntax.Text:
    """Convert an item of a macro's `values`: `~"..."` and `r"..."` are patterns, anything else a text."""
    for start, kind in (('~"', "glob"), ('r"', "regex")):
        if value.startswith(start) and value.endswith('"') and len(value) > 2:
            return syntax.Text(0, 1, kind, literals.pattern(value))
    return syntax.Text(0, 1, "string", literals.encode(value))


def _constant(scalar: Scalar) -> bytes | int | bool:
    if scalar.plain and scalar.value in ("true", "false"):
        return scalar.value == "true"
    digits = scalar.value.removeprefix("-")
    if scalar.plain and digits.isdecimal() and digits.isascii():
        number = literals.decimal(digits)
        return number if digits == scalar.value else -number
    return literals.encode(scalar.value)
