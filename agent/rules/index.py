"""Finds the rules that an event can match, so that its cost does not grow with the number of rules.

Most rules need a certain path, base name or directory. An event is evaluated only by the rules that need one
of its own, and by those that need none. The rules that share such a key are compiled together, when the first
event has the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from agent.events.actors import Context
from agent.events.model import Event
from agent.rules import evaluate, fields, tree
from agent.rules.patterns import Pattern

Variables = dict[str, Any]
Judge = Callable[[Event, Context, Variables], list[int]]

PATH, NAME, DIRECTORY = "path", "name", "directory"
_COST = {PATH: 1, NAME: 2, DIRECTORY: 16}  # how many events a key lets through, roughly
_SLOTS = {
    fields.FILE_PATH: ("file", PATH),
    fields.FILE_NAME: ("file", NAME),
    fields.FILE2_PATH: ("file2", PATH),
    fields.FILE2_NAME: ("file2", NAME),
}


class Key(NamedTuple):
    """What an event must have: `value` is a path, a base name, or a directory with a slash at its end."""

    slot: str  # file or file2
    kind: str
    value: bytes


Keys = frozenset[Key]


def keys(condition: tree.Condition) -> Keys | None:
    """Return keys of which every match of a condition has one; None if there are none."""
    if isinstance(condition, tree.Match):
        return _of_match(condition)
    if isinstance(condition, tree.All):
        known = [found for item in condition.items if (found := keys(item)) is not None]
        return min(known, key=_cost) if known else None
    if isinstance(condition, tree.Any):
        parts = [keys(item) for item in condition.items]
        return None if None in parts else frozenset(key for part in parts if part for key in part)
    return frozenset() if condition == tree.FALSE else None


def _cost(found: Keys) -> int:
    return sum(_COST[key.kind] for key in found)


def _of_match(match: tree.Match) -> Keys | None:
    if match.field.role not in _SLOTS:
        return None
    slot, kind = _SLOTS[match.field.role]
    if kind == NAME and match.matcher.patterns:
        return None
    patterns = [_of_pattern(slot, pattern) for pattern in match.matcher.patterns]
    if None in patterns:
        return None
    return frozenset(Key(slot, kind, value) for value in match.matcher.exact).union(filter(None, patterns))


def _of_pattern(slot: str, pattern: Pattern) -> Key | None:
    if pattern.last_component:
        return Key(slot, NAME, pattern.last_component)
    directory = pattern.directory
    return Key(slot, DIRECTORY, directory) if len(directory) > 1 else None


class _Bucket:
    """The rules that share a key; they are compiled when an event first has it."""

    def __init__(self) -> None:
        self.rules: list[tuple[int, tree.Condition]] = []
        self.judge: Judge = self._first

    def _first(self, event: Event, context: Context, variables: Variables) -> list[int]:
        self.judge = evaluate.judge(self.rules)
        return self.judge(event, context, variables)


class Index:
    """The rules of one event type, by the keys that they need."""

    def __init__(self, conditions: Sequence[tree.Condition]) -> None:
        self._buckets: dict[tuple[str, str], dict[bytes, _Bucket]] = {}
        others: list[tuple[int, tree.Condition]] = []
        for number, condition in enumerate(conditions):
            found = keys(condition)
            if found is None:
                others.append((number, condition))
            for key in found or ():
                table = self._buckets.setdefault((key.slot, key.kind), {})
                table.setdefault(key.value, _Bucket()).rules.append((number, condition))
        self._others = evaluate.judge(others) if others else None
        self._lookups = [(slot, kind, table) for (slot, kind), table in self._buckets.items()]

    def evaluate(self, event: Event, context: Context, variables: Variables) -> Sequence[int]:
        """Return the numbers of the conditions that hold, in ascending order."""
        hits = self._others(event, context, variables) if self._others else []
        found = self._found(event)
        if not found:
            return hits
        for bucket in found:
            hits += bucket.judge(event, context, variables)
        return sorted(set(hits)) if hits else hits

    def _found(self, event: Event) -> list[_Bucket]:
        found: list[_Bucket] = []
        for slot, kind, table in self._lookups:
            file = event.file if slot == "file" else event.file2
            path = file.path if file else b""  # as rules read a file that an event does not have
            if kind == DIRECTORY:
                found += _above(path, table)
                continue
            bucket = table.get(path if kind == PATH else path[path.rfind(b"/") + 1 :])
            if bucket is not None:
                found.append(bucket)
        return found


def _above(path: bytes, table: dict[bytes, _Bucket]) -> Iterable[_Bucket]:
    """Return the buckets of the directories above a path."""
    at, found = path.find(b"/", 1), []
    while at > 0:
        bucket = table.get(path[: at + 1])
        if bucket is not None:
            found.append(bucket)
        at = path.find(b"/", at + 1)
    return found
