"""Matches to send."""

from __future__ import annotations

from agent.sinks.base import Match


def match(number: int = 0, rule: str = "rule") -> Match:
    return Match(rule, "open", 1_000 + number, b'{"n":%d}' % number)


def matches(count: int, first: int = 0) -> list[Match]:
    return [match(number) for number in range(first, first + count)]
