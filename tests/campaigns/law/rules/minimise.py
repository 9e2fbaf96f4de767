"""Shrinks a difference: fewer tokens, then fewer keys of the event."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")

_PARTS = re.compile(r'[~r]?"(?:[^"\\]|\\.)*"|\$\{[^}]*\}|[\w.]+|\s+|.', re.DOTALL)
_INSIDE = re.compile(r"\\x..|\\u....|\\.|.", re.DOTALL)


def fewer(items: Sequence[Item], fails: Callable[[list[Item]], bool]) -> list[Item]:
    """Return a part of the items that still fails, from which no run of items can be left out (ddmin)."""
    left, size = list(items), len(items)
    while size:
        at = 0
        while at < len(left):
            without = left[:at] + left[at + size :]
            if without and fails(without):
                left = without
            else:
                at += size
        size //= 2
    return left


def expression(text: str, fails: Callable[[str], bool]) -> str:
    """Return a shorter expression that still fails.

    It loses conditions in parentheses, then tokens, then characters of its texts.
    """
    parts = fewer(_PARTS.findall(text), lambda left: fails("".join(left)))
    before = None
    while parts != before:
        before = parts
        for start, end in _groups(parts):
            for inside in (parts[start + 1 : end], ["true"], ["false"]):
                made = [*parts[:start], *inside, *parts[end + 1 :]]
                if len(made) < len(parts) and fails("".join(made)):
                    parts = fewer(made, lambda left: fails("".join(left)))
                    break
            if parts != before:
                break
    for at, part in enumerate(parts):
        parts[at] = _shorter_text(parts, at, fails) if part[-1] == '"' and len(part) > 2 else part
    return "".join(parts)


def _groups(parts: list[str]) -> Iterator[tuple[int, int]]:
    opened: list[int] = []
    for at, part in enumerate(parts):
        if part in ("(", "["):
            opened.append(at)
        elif part in (")", "]") and opened:
            yield opened.pop(), at


def _shorter_text(parts: list[str], at: int, fails: Callable[[str], bool]) -> str:
    part = parts[at]
    start = part.index('"') + 1
    head, tail = "".join(parts[:at]) + part[:start], '"' + "".join(parts[at + 1 :])
    inside = fewer(_INSIDE.findall(part[start:-1]), lambda left: fails(head + "".join(left) + tail))
    return part[:start] + "".join(inside) + '"'


def sample(event: dict[str, Any], fails: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Return an event with fewer keys that still fails."""
    paths: list[tuple[str, ...]] = [(key,) for key in event if key != "type"]
    paths += [(key, inner) for key, value in event.items() if isinstance(value, dict) for inner in value]
    for path in sorted(paths, key=len):
        without = _without(event, path)
        if without is not None and fails(without):
            event = without
    return event


def _without(event: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any] | None:
    if path[0] not in event:
        return None
    if len(path) == 1:
        return {key: value for key, value in event.items() if key != path[0]}
    inner = event[path[0]]
    if path[1] not in inner:
        return None
    return {**event, path[0]: {key: value for key, value in inner.items() if key != path[1]}}
