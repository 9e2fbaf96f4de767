"""Builds a matcher from the constants that a field is compared with, and checks the constants."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from agent.rules import tree
from agent.rules.fields import Field
from agent.rules.patterns import Matcher, Pattern
from agent.rules.regex import PatternError
from agent.rules.syntax import Text

CONDITIONS = (
    tree.Always,
    tree.All,
    tree.Any,
    tree.Not,
    tree.Flag,
    tree.FlagVariable,
    tree.Compare,
    tree.Member,
    tree.Match,
    tree.Same,
    tree.InVariable,
)


class Complaint(NamedTuple):
    """An error in one constant."""

    message: str
    text: Text
    hint: str = ""


def matcher(field: Field, texts: tuple[Text, ...]) -> tuple[Matcher, list[Complaint]]:
    """Return the matcher for a field's constants, and the errors in them.

    The matcher leaves out constants that are invalid or can never match.
    """
    exact: set[bytes] = set()
    patterns: list[Pattern] = []
    complaints: list[Complaint] = []
    for text in texts:
        fault = _path_fault(text) if field.path else ""
        if fault:
            complaints.append(
                Complaint(fault, text, "write an absolute, normalized path such as /etc/passwd")
            )
        elif text.kind == "string" or (text.kind == "glob" and b"*" not in text.value):
            exact.add(text.value)
        else:
            try:
                patterns.append(_pattern(field, text))
            except PatternError as error:
                complaints.append(Complaint(_located(text, error), text))
    return Matcher(frozenset(exact), tuple(dict.fromkeys(patterns))), complaints


def _pattern(field: Field, text: Text) -> Pattern:
    value = text.value
    if field.path and text.kind == "glob" and value.startswith(b"*") and not value.startswith(b"**"):
        value = b"/" + value  # SECL: a leading * stands for the first component
    return _cached(text.kind, value, field.path and text.kind == "glob")


@lru_cache(maxsize=4_096)
def _cached(kind: str, value: bytes, path: bool) -> Pattern:
    # A rule with `fim.write` fields has the same pattern for each of its event types.
    return Pattern(kind, value, path=path)


def _located(text: Text, error: PatternError) -> str:
    shown = text.value[error.at : error.at + 12].decode("utf-8", "replace")
    return f"{error} (at `{shown}`)" if text.kind == "regex" else str(error)


def _path_fault(text: Text) -> str:
    """Return why a constant can never match a path; "" if it can."""
    value = text.value
    if text.kind == "regex" or value in (b"", b"/"):
        return ""
    absolute = value.startswith(b"/") or (text.kind == "glob" and value.startswith(b"*"))
    if not absolute:
        return "a path begins with /"
    if any(part in (b"", b".", b"..") for part in value.split(b"/")[1:]):
        return "a path has no empty component, no `.`, no `..` and no trailing slash"
    return ""
