"""Globs and regular expressions as docs/rules.md describes them, on top of Python's `re`.

They repeat parts of `agent.rules` on purpose: an evaluator that shared them would share their mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Matcher = Callable[[bytes], bool]

# Before a sign, a backslash takes the sign's special meaning away.
ESCAPES = frozenset(b"dwsDWSntrfva")
# Named sets, which `re` does not have.
NAMED = {b"[:alnum:]": b"a-zA-Z0-9", b"[:alpha:]": b"a-zA-Z", b"[:digit:]": b"0-9", b"[:space:]": rb"\s"}
# Repeats that Python and RE2 do not both read as repeats: possessive ones, and `{` that begins no repeat.
REPEATS = re.compile(rb"[*+?]|\{\d+(,\d*)?\}")

MOST = 2_048  # symbols of a pattern, repeats expanded


class UndefinedError(Exception):
    """The page does not define the meaning."""


class RefusedError(UndefinedError):
    """According to the page this does not load."""


@lru_cache(10_000)
def glob(pattern: bytes, *, path: bool) -> Matcher:
    """Return whether a text matches a glob as a whole."""
    if not path:
        parts = [re.escape(part) for part in pattern.split(b"*")]
        return _whole(b".*".join(parts))
    made, at = b"", 0
    while at < len(pattern):
        if pattern.startswith(b"/**/", at):
            made, at = made + b"/(?:.*/)?", at + 4
        elif pattern.startswith(b"**", at):
            made, at = made + b".*", at + 2
        elif pattern.startswith(b"*", at):
            made, at = made + (b"[^/]*" if at else b"/[^/]*"), at + 1
        else:
            made, at = made + re.escape(pattern[at : at + 1]), at + 1
    return _whole(made)


def _whole(made: bytes) -> Matcher:
    compiled = re.compile(made, re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


@lru_cache(10_000)
def regex(pattern: bytes) -> Matcher:
    """Return whether a regular expression is found in a text.

    :raises UndefinedError: it uses more than the common part of RE2 and Python
    """
    flags, body = b"", pattern
    if body.startswith(b"(?i)"):
        flags, body = b"(?i)", body[4:]
    try:
        compiled = re.compile(flags + _translated(body))
    except (re.error, OverflowError, RecursionError) as error:
        raise UndefinedError(f"regular expression: {error}") from error
    return lambda text: compiled.search(text) is not None


def _translated(body: bytes) -> bytes:
    r"""Return the pattern with `$` as `\Z`: Python's `$` also matches before a newline at the end."""
    made, at, repeated = b"", 0, True
    while at < len(body):
        char = body[at : at + 1]
        repeat = REPEATS.match(body, at)
        if repeat:
            if any(int(number) > MOST for number in re.findall(rb"[0-9]{1,4000}", repeat.group())):
                raise RefusedError("a repeat of more symbols than a pattern may have")
            if repeated:
                raise UndefinedError("a repeat of nothing or of a repeat")
            made, at, repeated = made + repeat.group(), repeat.end(), True
            if body[at : at + 1] == b"?":  # lazy: for a search without captures the same
                at += 1
            continue
        part, end = _part(body, at)
        made, at, repeated = made + part, end, char in b"(|^$"
    return made


def _part(body: bytes, at: int) -> tuple[bytes, int]:
    char = body[at : at + 1]
    if char == b"\\":
        _escape(body, at)
        return body[at : at + 2], at + 2
    if char == b"[":
        return _set(body, at)
    if char == b"(" and body[at + 1 : at + 2] == b"?":
        if body[at + 2 : at + 3] != b":":
            raise UndefinedError("a group with an extension")
        return b"(?:", at + 3
    if char == b"$":
        return rb"\Z", at + 1
    if char in b"{}]":
        raise UndefinedError("a bracket by itself")
    return char, at + 1


def _escape(body: bytes, at: int) -> None:
    escaped = body[at + 1 : at + 2]
    if re.match(rb"x[0-9a-fA-F]{2}", body[at + 1 : at + 4]):
        return
    if not escaped or (escaped.isalnum() and escaped[0] not in ESCAPES) or escaped[0] > 127:
        raise UndefinedError(f"escape in a regular expression: {escaped!r}")


def _set(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1
    if body[end : end + 1] == b"^":
        end += 1
    if body[end : end + 1] == b"]":
        raise UndefinedError("a bracket as the first of a set")
    start, named = end, re.compile(rb"\[:[a-z]+:\]")
    while end < len(body) and body[end : end + 1] != b"]":
        if (name := named.match(body, end)) and name.group() in NAMED:
            end = name.end()
            continue
        if body[end : end + 1] == b"\\":
            _escape(body, end)
            end += 1
        elif body[end] > 127 or body[end : end + 1] == b"[":
            raise UndefinedError("a set of bytes above 127, or of brackets")
        end += 1
    inner = body[start:end]
    if any(twice in inner for twice in (b"--", b"&&", b"||", b"~~")):
        raise UndefinedError("a doubled operator in a set")
    made = body[at : end + 1]
    for named_set, members in NAMED.items():
        made = made.replace(named_set, members)
    return made, end + 1
