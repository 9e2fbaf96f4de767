"""What a scenario writes down: every assertion, held or not, with what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.events.model import EventType

About = Callable[[], Mapping[str, object]]

MOST_ENTRIES = 40  # of a list or table in one assertion; the rest is counted


class CannotTellError(Exception):
    """What a scenario has observed of this machine leaves nothing to prove here; the message says what."""


class Evidence:
    """The assertions of one scenario. `context` is added to those that fail: rules, script, hooks, ledger.

    An assertion about one event also says which rule, which line of the script and which hook it is about.
    """

    def __init__(self) -> None:
        self.assertions: list[dict[str, Any]] = []
        self.context: dict[str, Any] = {}
        self.witness: About = dict  # what is to be asked only when something fails
        self.note = ""  # a figure for people, beside a pass

    def equal(self, name: str, expected: object, got: object, about: About = dict) -> bool:
        """Record that two values are the same; says whether they are."""
        return self.record(name, expected == got, expected, got, about)

    def record(self, name: str, ok: bool, expected: object, got: object, about: About = dict) -> bool:
        """Record a condition in the words of `expected` and `got`; says whether it holds.

        `about` makes what `context` has no word for, and is asked only if the condition does not hold.
        """
        entry = {"name": name, "ok": ok, "expected": plain(expected), "got": plain(got)}
        if not ok:
            entry["evidence"] = plain({**about(), **self.context, **self.witness()})
        self.assertions.append(entry)
        return ok

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The assertions that do not hold."""
        return [entry for entry in self.assertions if not entry["ok"]]

    def add(self, name: str, value: object) -> None:
        """Put something to the first failure that is known only at the end."""
        for entry in self.failures[:1]:
            entry["evidence"][name] = plain(value)

    def reason(self) -> str:
        """The first failure in one line; empty when there is none."""
        if not self.failures:
            return ""
        first, others = self.failures[0], len(self.failures) - 1
        also = f" (and {others} more)" if others else ""
        return f"{first['name']}: expected {first['expected']}, got {first['got']}{also}"


def plain(value: object) -> Any:
    """A value as JSON can hold it; bytes become text with what is not printable ASCII escaped."""
    if isinstance(value, bytes):
        return value.decode("latin-1").encode("unicode_escape").decode("ascii")
    if isinstance(value, EventType):
        return value.label
    if isinstance(value, Mapping):
        return _cut({str(plain(key)): plain(entry) for key, entry in value.items()})
    if isinstance(value, (list, tuple, set, frozenset)):
        entries = [plain(entry) for entry in list(value)[:MOST_ENTRIES]]
        more = len(value) - len(entries)
        return [*entries, f"... and {more} more"] if more else entries
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)


def _cut(table: dict[str, Any]) -> dict[str, Any]:
    if len(table) <= MOST_ENTRIES:
        return table
    kept = dict(list(table.items())[:MOST_ENTRIES])
    return kept | {"...": f"and {len(table) - MOST_ENTRIES} more"}
