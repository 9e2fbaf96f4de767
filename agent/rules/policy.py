"""Reads policy files one by one; `load` links their rules afterwards.

The format is that of Datadog's agent: `version`, `macros` and `rules`. A key that this agent does not support
is an error; keys that only describe a rule are accepted and ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from agent.errors import did_you_mean
from agent.rules import literals
from agent.rules import source as yaml_source
from agent.rules.builder import ParseError
from agent.rules.constants import words
from agent.rules.engine import OWN_PREFIX
from agent.rules.hostfacts import Fact, holds
from agent.rules.problems import Problem, Problems
from agent.rules.source import Items, Node, Scalar, Source, Unreadable

MAX_ENTRIES = 4_096  # rules, and macros, of one file
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MACRO_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

_TOP = ("version", "macros", "rules")
_RULE = (
    "id",
    "expression",
    "description",
    "tags",
    "disabled",
    "filters",
    "actions",
    "every",
    "silent",
    "combine",
)
_MACRO = ("id", "expression", "values", "description", "filters", "combine")
_SET = ("name", "value", "field", "append")
# Descriptive keys: they affect neither what matches nor which actions run.
_DESCRIBES = ("version", "product_tags", "agent_version", "group_id", "name", "type")
_FOREIGN = words(
    "limiter_token override override_options priority hooks on_demand_hook_points rate_limiter "
    "replace_policy_id scope ttl size inherited expression private default_value"
)


class RuleDraft(NamedTuple):
    """An entry of `rules`, or several entries of the same id combined.

    `given` names the keys of the entry. `expression` is None for an entry that only disables or changes an
    earlier one; `source` is the file that has the expression.
    """

    source: Source
    id: Scalar
    expression: Scalar | None
    description: str
    tags: Mapping[str, str]
    disabled: bool
    every_ns: int
    silent: bool
    override: bool
    hash: bool
    sets: tuple[SetDraft, ...]
    given: frozenset[str]

    def over(self, earlier: RuleDraft) -> RuleDraft:
        """Override an earlier entry; keys that this entry does not give keep their values."""
        changes = {name: getattr(self, name) for key in self.given for name in _ATTRIBUTES.get(key, ())}
        return earlier._replace(given=earlier.given | self.given, **changes)


# Keys of an entry, with the attributes of the draft that each sets.
_ATTRIBUTES = {
    "expression": ("source", "id", "expression"),
    "description": ("description",),
    "tags": ("tags",),
    "every": ("every_ns",),
    "silent": ("silent",),
    "actions": ("hash", "sets"),
}


class SetDraft(NamedTuple):
    """The action `set`: assigns a constant or the value of a field to a variable."""

    source: Source
    name: Scalar
    value: Scalar | None
    field: Scalar | None
    append: bool


class MacroDraft(NamedTuple):
    """An entry of `macros`: an expression or a list of values."""

    source: Source
    id: Scalar
    expression: Scalar | None
    values: tuple[Scalar, ...]
    combine: str


EntryKey = tuple[str, int]  # an entry of `rules` or `macros`: its file and its offset there


class Policy(NamedTuple):
    """The content of one file."""

    macros: list[MacroDraft]
    rules: list[RuleDraft]


class PolicyReader:
    """Reads files one by one and collects their errors in `problems`."""

    def __init__(self, facts: Mapping[str, Fact], without: frozenset[EntryKey] = frozenset()) -> None:
        self.problems = Problems()
        self.outside: list[Problem] = []  # the problems that lie in no entry
        self._facts = facts
        self._without = without
        self._source = Source("", "")
        self._entries_read: dict[str, list[yaml_source.Mapping]] = {}

    def entry_of(self, problem: Problem) -> EntryKey | None:
        """Return the entry in which a problem lies, or None."""
        for entry in self._entries_read.get(problem.file, ()):
            if entry.at <= problem.at < entry.end:
                return problem.file, entry.at
        return None

    def read(self, name: str, data: bytes) -> Policy:
        """Read a file; entries with errors, and those `without`, are not read."""
        before = len(self.problems.found)
        try:
            macros, rules = self._lists(name, data)
        finally:
            self.outside += self.problems.found[before:]
        return Policy(
            [macro for entry in macros if (macro := self._macro(entry))],
            [rule for entry in rules if (rule := self._rule(entry))],
        )

    def _lists(self, name: str, data: bytes) -> tuple[list[yaml_source.Mapping], list[yaml_source.Mapping]]:
        """Return the entries of `macros` and of `rules`."""
        try:
            self._source = yaml_source.decode(name, data)
            root = yaml_source.read(self._source)
        except Unreadable as error:
            self.problems.add(error.problem)
            return [], []
        if not isinstance(root, yaml_source.Mapping):
            at = root.at if root is not None else 0
            self._problem(at, "the file has no `rules`", "begin it with version: and rules:")
            return [], []
        self._keys(root, _TOP, "policy files")
        return self._entries(root, "macros"), self._entries(root, "rules")

    def _problem(self, at: int, message: str, hint: str = "", width: int = 1) -> None:
        self.problems.add(self._source.problem(at, message, hint, width))

    def _at(self, node: Node, message: str, hint: str = "") -> None:
        width = node.end - node.at if isinstance(node, Scalar) else 1
        self._problem(node.at, message, hint, width)

    def _keys(self, entry: yaml_source.Mapping, known: tuple[str, ...], what: str) -> None:
        for key, _ in entry.pairs:
            if key.value in known or key.value in _DESCRIBES:
                continue
            if key.value in _FOREIGN:
                self._at(key, f"`{key.value}` of Datadog's agent is not supported in {what}")
                continue
            hint = did_you_mean(key.value, known) or "known keys: " + ", ".join(known)
            self._at(key, f"unknown key `{key.value}` in {what}", hint)

    def _entries(self, root: yaml_source.Mapping, key: str) -> list[yaml_source.Mapping]:
        node = root.get(key)
        if node is None or (isinstance(node, Scalar) and not node.value):
            return []
        if not isinstance(node, Items):
            self._at(node, f"`{key}` must be a list")
            return []
        if len(node.items) > MAX_ENTRIES:
            self._at(node, f"`{key}` has {len(node.items)} entries, the limit is {MAX_ENTRIES}")
            return []
        for item in node.items:
            if not isinstance(item, yaml_source.Mapping):
                self._at(item, f"an entry of `{key}` must begin with `- id:`")
        entries = [item for item in node.items if isinstance(item, yaml_source.Mapping)]
        self._entries_read.setdefault(self._source.name, []).extend(entries)
        return [entry for entry in entries if (self._source.name, entry.at) not in self._without]

    def _rule(self, entry: yaml_source.Mapping) -> RuleDraft | None:
        self._keys(entry, _RULE, "rules")
        name = self._id(entry, _ID)
        if name is None or not self._applies(entry):
            return None
        disabled = self._boolean(entry, "disabled")
        expression = self._text(entry, "expression")
        override = self._combine(entry, ("override",)) == "override"
        if expression is None and not disabled and not override:
            self._at(name, f"rule `{name.value}` has no expression")
            return None
        sets, hashed = self._actions(entry)
        return RuleDraft(
            source=self._source,
            id=name,
            expression=expression,
            description=self._string(entry, "description"),
            tags=self._tags(entry),
            disabled=disabled,
            every_ns=self._every(entry),
            silent=self._boolean(entry, "silent"),
            override=override,
            hash=hashed,
            sets=sets,
            given=frozenset(key.value for key, _ in entry.pairs),
        )

    def _macro(self, entry: yaml_source.Mapping) -> MacroDraft | None:
        self._keys(entry, _MACRO, "macros")
        name = self._id(entry, _MACRO_ID)
        if name is None or not self._applies(entry):
            return None
        expression = self._text(entry, "expression")
        values = self._list(entry, "values")
        if (expression is None) == (entry.get("values") is None):
            self._at(name, f"macro `{name.value}` needs either `expression` or `values`")
            return None
        return MacroDraft(self._source, name, expression, values, self._combine(entry, ("merge", "override")))

    def _id(self, entry: yaml_source.Mapping, form: re.Pattern[str]) -> Scalar | None:
        name = self._text(entry, "id")
        if name is None:
            self._at(entry, "the entry has no `id`")
        elif not form.fullmatch(name.value):
            self._at(name, f"`{name.value}` is not a valid id", f"ids match {form.pattern}")
            return None
        elif name.value.startswith(OWN_PREFIX):
            self._at(name, f"ids that begin with `{OWN_PREFIX}` are the agent's own", "choose another id")
            return None
        return name

    def _text(self, entry: yaml_source.Mapping, key: str) -> Scalar | None:
        node = entry.get(key)
        if node is not None and not isinstance(node, Scalar):
            self._at(node, f"`{key}` must be a text")
            return None
        return node

    def _string(self, entry: yaml_source.Mapping, key: str) -> str:
        node = self._text(entry, key)
        return node.value if node else ""

    def _boolean(self, entry: yaml_source.Mapping, key: str) -> bool:
        node = self._text(entry, key)
        if node is not None and node.value not in ("true", "false"):
            self._at(node, f"`{key}` must be true or false")
        return node is not None and node.value == "true"

    def _combine(self, entry: yaml_source.Mapping, known: tuple[str, ...]) -> str:
        node = self._text(entry, "combine")
        if node is not None and node.value not in known:
            self._at(node, f"`combine: {node.value}` is not supported", "supported: " + ", ".join(known))
        return node.value if node else ""

    def _every(self, entry: yaml_source.Mapping) -> int:
        node = self._text(entry, "every")
        if node is None:
            return 0
        try:
            length = literals.duration(node.value)
        except literals.BadLiteralError as error:
            self._at(node, f"invalid duration: {error}")
            return 0
        if not length:
            self._at(node, f"invalid duration `{node.value}`", "write 10s or 1h30m")
        return length

    def _list(self, entry: yaml_source.Mapping, key: str) -> tuple[Scalar, ...]:
        node = entry.get(key)
        if node is None:
            return ()
        items = node.items if isinstance(node, Items) else ()
        if not isinstance(node, Items) or not all(isinstance(item, Scalar) for item in items):
            self._at(node, f"`{key}` must be a list of texts")
        return tuple(item for item in items if isinstance(item, Scalar))

    def _tags(self, entry: yaml_source.Mapping) -> Mapping[str, str]:
        """Read `tags`, either a mapping or a list of `key:value`."""
        node = entry.get("tags")
        if isinstance(node, yaml_source.Mapping) and all(
            isinstance(value, Scalar) for _, value in node.pairs
        ):
            return {key.value: value.value for key, value in node.pairs if isinstance(value, Scalar)}
        pairs = [item.value.partition(":") for item in self._list(entry, "tags")]
        return {key.strip(): value.strip() for key, _, value in pairs}

    def _applies(self, entry: yaml_source.Mapping) -> bool:
        filters = self._list(entry, "filters")
        verdicts = [self._holds(each) for each in filters]
        return any(verdicts) or not filters

    def _holds(self, condition: Scalar) -> bool:
        try:
            return holds(condition.value, self._facts)
        except ParseError as error:
            at = yaml_source.offset(self._source, condition, error.at)
            self._problem(at, error.message, error.hint, error.end - error.at)
            return True

    def _actions(self, entry: yaml_source.Mapping) -> tuple[tuple[SetDraft, ...], bool]:
        node = entry.get("actions")
        if node is None:
            return (), False
        items = node.items if isinstance(node, Items) else ()
        if not items or not all(isinstance(item, yaml_source.Mapping) for item in items):
            self._at(node, "`actions` must be a list of actions")
        sets: list[SetDraft] = []
        hashed = False
        for item in items:
            for key, value in item.pairs if isinstance(item, yaml_source.Mapping) else ():
                hashed = hashed or key.value == "hash"
                sets += self._action(key, value)
        return tuple(sets), hashed

    def _action(self, key: Scalar, value: Node) -> list[SetDraft]:
        readers: dict[str, Callable[[Scalar, Node], list[SetDraft]]] = {"set": self._set, "hash": self._hash}
        if key.value in readers:
            return readers[key.value](key, value)
        if key.value != "filter":
            self._at(key, f"the action `{key.value}` is not supported", "supported: set, hash")
        else:
            self._at(key, "actions with a filter are not supported", "write one rule for each filter")
        return []

    def _hash(self, key: Scalar, value: Node) -> list[SetDraft]:
        empty = isinstance(value, yaml_source.Mapping) and not value.pairs
        if not empty and not (isinstance(value, Scalar) and not value.value):
            self._at(key, "the action `hash` takes no settings in this agent")
        return []

    def _set(self, key: Scalar, value: Node) -> list[SetDraft]:
        if not isinstance(value, yaml_source.Mapping):
            self._at(key, "`set` needs a name and a value or field")
            return []
        self._keys(value, _SET, "the action `set`")
        name, constant, field = (self._text(value, part) for part in ("name", "value", "field"))
        if name is None or (constant is None) == (field is None):
            self._at(key, "`set` needs a name and either a value or a field")
            return []
        return [SetDraft(self._source, name, constant, field, self._boolean(value, "append"))]
