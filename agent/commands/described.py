"""Prints for `agent explain --event` at which stage a described event is dropped, and which rules match."""

from __future__ import annotations

import os
import stat
import textwrap
from collections.abc import Iterator

from agent.errors import UsageError, did_you_mean
from agent.events.model import PROCESS_EVENTS, TWO_PATHS, Event, EventType, File
from agent.filters.trace import Trace, trace
from agent.rules.constants import OPEN_FLAGS, table
from agent.rules.engine import Ruleset
from agent.rules.fields import event_types
from agent.rules.problems import clean

FORM = "TYPE:PATH, open:PATH:FLAGS, rename:PATH:PATH or link:PATH:PATH"
_IDENTITIES = (1, 2, 3, 4)  # any: a discarder needs that the kernel knows the file and its directories


def parse(text: str) -> Event:
    """Return the event that a text such as `open:/etc/passwd:O_WRONLY` describes. Raises UsageError."""
    label, _, rest = text.partition(":")
    kind = event_types().get(label)
    if kind is None or kind in (EventType.FORK, EventType.EXIT):
        hint = did_you_mean(label, event_types()) or f"write {FORM}"
        raise UsageError(
            f"invalid event {clean(text)!r}: no event of type {clean(label)!r} has a path", hint=hint
        )
    path, flags, second = rest, 0, None
    if kind is EventType.OPEN and ":" in rest and "/" not in rest.rpartition(":")[2]:
        path, _, words = rest.rpartition(":")
        flags = sum({_flag(word, text) for word in words.split("|")})
    if kind in TWO_PATHS:
        path, colon, destination = rest.partition(":/")
        second = _file(f"{colon[1:]}{destination}", text)
    return Event(kind, flags=flags, file=_file(path, text), file2=second)


def _flag(word: str, text: str) -> int:
    if word not in OPEN_FLAGS:
        hint = did_you_mean(word, OPEN_FLAGS) or "write flags as O_WRONLY|O_CREAT"
        raise UsageError(f"invalid event {clean(text)!r}: no open flag {clean(word)!r}", hint=hint)
    return table()[word]


def _file(path: str, text: str) -> File:
    if os.path.normpath(path) != path or not path.startswith("/"):
        message = f"invalid event {clean(text)!r}: {clean(path)!r} is not an absolute, normalized path"
        raise UsageError(message, hint=f"write {FORM}")
    return File(os.fsencode(path), mode=stat.S_IFREG | 0o644, nlink=1, identities=_IDENTITIES)


def describe(ruleset: Ruleset, text: str, width: int) -> Iterator[str]:
    """Yield the lines for the event that `text` describes. Raises UsageError."""
    event = parse(text)
    found = trace(ruleset, event)
    for line in (clean(text), *_stages(event, found), f"result: {_result(found)}"):
        yield from textwrap.wrap(
            line, width, subsequent_indent="      ", break_long_words=False, break_on_hyphens=False
        )


def _stages(event: Event, found: Trace) -> Iterator[str]:
    label = event.type.label
    yield f"  approvers: {_approvers(event, found)}"
    if found.discards and (found.approved or found.perhaps_by):
        at = clean(os.fsdecode(found.discards))
        yield f"  discarders: after one {label} that no rule matches, the kernel drops any at or below {at}"
    else:
        yield "  discarders: no discarder drops it"
    for name in found.matches:
        yield f"  evaluator: {name} matches"
    for name, unknown in found.depends.items():
        yield f"  evaluator: {name} depends on {', '.join(unknown)}"
    others = found.rules - len(found.matches) - len(found.depends)
    if others:
        yield f"  evaluator: {others} of {found.rules} rules on {label} cannot match"


def _approvers(event: Event, found: Trace) -> str:
    if event.type in PROCESS_EVENTS:
        return "passes: the kernel forwards all exec, fork and exit"
    if found.open:
        return f"passes: the kernel forwards every {event.type.label}, because a rule has no approver"
    if found.approved_by:
        return f"passes, because of {', '.join(found.approved_by)}"
    if found.perhaps_by:
        return f"passes only for the users, logins or upper layer of {', '.join(found.perhaps_by)}"
    if not found.rules:
        return f"DROPPED: no rule is on {event.type.label}"
    return "DROPPED: no rule wants this path, name, directory or these flags"


def _result(found: Trace) -> str:
    if not (found.approved or found.perhaps_by):
        return "dropped in the kernel, by the approvers"
    if found.matches:
        return f"reported by {', '.join(found.matches)}"
    if found.depends:
        return f"reported by {', '.join(found.depends)} if the rest of the condition holds"
    return "dropped by the evaluator: no rule matches"
