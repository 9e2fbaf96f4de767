"""The action `set`: stores a value when a rule matches; rules read it as `${name}`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from agent.events.actors import Context
from agent.events.model import Event

MAX_COLLECTED = 1_000  # values of one variable; beyond it the oldest is removed


class SetAction(NamedTuple):
    """Set the variable `name` to the constant `value`, or to the result of `read` if that is given.

    With `append` the variable collects all values.
    """

    name: str
    value: bytes | int | bool = False
    read: Callable[[Event, Context, dict[str, Any]], Any] | None = None
    append: bool = False


class Store:
    """The variables of one rule set."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def apply(self, action: SetAction, event: Event, context: Context) -> None:
        """Perform one action of a rule that matched `event`."""
        value = action.read(event, context, self.values) if action.read else action.value
        if not action.append:
            self.values[action.name] = value
            return
        collected: dict[Any, None] = self.values.setdefault(action.name, {})
        collected.pop(value, None)
        collected[value] = None
        if len(collected) > MAX_COLLECTED:
            del collected[next(iter(collected))]
