"""Records the assertions of a scenario, each with the expected and the actual value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from agent.events.model import EventType

About = Callable[[], Mapping[str, object]]

MOST_ENTRIES = 40  # of a list or mapping in one assertion; the rest is only counted


class CannotTellError(Exception):
    """The scenario observed a fact about this machine that makes the test impossible; the message has it."""


class Evidence:
    """The assertions of one scenario. A failed one also has `context`: rules, script, hooks, ledger.

    A failed assertion about one event also has its rule, the line of the script and the hooks.
    """

    def __init__(self) -> None:
        self.assertions: list[dict[str, Any]] = []
        self.context: dict[str, Any] = {}
        self.witness: About = dict  # more context, which is computed only for a failure
        self.note = ""  # a measured value to print beside PASS

    def equal(self, name: str, expected: object, got: object, about: About = dict) -> bool:
        """Record whether two values are equal, and return it."""
        return self.record(name, expected == got, expected, got, about)

    def record(self, name: str, ok: bool, expected: object, got: object, about: About = dict) -> bool:
        """Record whether a condition holds, described by `expected` and `got`, and return it.

        `about` returns more evidence; it is called only if the condition does not hold.
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
        """Add evidence that is known only at the end to the first failure."""
        for entry in self.failures[:1]:
            entry["evidence"][name] = plain(value)

    def reason(self) -> str:
        """Return the first failure in one line, or an empty string."""
        if not self.failures:
            return ""
        first, others = self.failures[0], len(self.failures) - 1
        also = f" (and {others} more)" if others else ""
        return f"{first['name']}: expected {first['expected']}, got {first['got']}{also}"


def plain(value: object) -> Any:
    """Return a value as JSON can hold it. Bytes become text, with all but printable ASCII escaped."""
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
