"""Extends rules on the names of files to changes of what lies above the files that they watch.

A rename of `/srv/keep` moves everything below it away from the paths that rules have, or to them; a symbolic
link in its place leads these paths to other files. So a rule on `rename`, `symlink`, `link` or `unlink` that
names a path matches such a change of a directory above that path as well. Of a glob these are the directories
that its components name, up to the first `**`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from functools import cache

from agent.events.model import EventType
from agent.rules import fields, tree
from agent.rules.patterns import Matcher, Pattern

# The mode is 0 where only the arguments of the system call are known.
_UNKNOWN = 0
# The files of an event whose paths lead elsewhere after it. An old name stays when a file gets a second one.
_CHANGED = {
    EventType.RENAME: (fields.FILE_PATH, fields.FILE2_PATH),
    EventType.SYMLINK: (fields.FILE_PATH,),
    EventType.LINK: (fields.FILE2_PATH,),
    EventType.UNLINK: (fields.FILE_PATH,),
}


def extend(kind: EventType, condition: tree.Condition) -> tree.Condition:
    """Return the condition of a rule on this event type that matches changes above as well.

    What the rule matches already it still matches: only comparisons that are not negated get alternatives.
    """
    return _extend(kind, tree.push(condition)) if kind in _CHANGED else condition


def _extend(kind: EventType, condition: tree.Condition) -> tree.Condition:
    if isinstance(condition, tree.All):
        return tree.All(tuple(_extend(kind, item) for item in condition.items))
    if isinstance(condition, tree.Any):
        return tree.Any(tuple(_extend(kind, item) for item in condition.items))
    if isinstance(condition, tree.Match) and condition.field.role in _CHANGED[kind]:
        above = _above(condition.matcher, kind)
        if above.exact or above.patterns:
            return tree.Any((condition, tree.All((tree.Match(condition.field, above), _leads(kind)))))
    return condition


@cache
def _leads(kind: EventType) -> tree.Condition:
    """Return the condition that a file of the event can lead to files below its path.

    An exchange moves both files of a rename, and any other rename replaces the second one.
    """
    if kind is EventType.SYMLINK:
        return tree.TRUE
    if kind is not EventType.RENAME:
        return _is_one_of(kind, "file.mode", stat.S_IFLNK, _UNKNOWN)
    first = _is_one_of(kind, "file.mode", stat.S_IFDIR, stat.S_IFLNK, _UNKNOWN)
    return tree.Any((first, _is_one_of(kind, "file.destination.mode", stat.S_IFDIR, stat.S_IFLNK)))


def _is_one_of(kind: EventType, field: str, *types: int) -> tree.Condition:
    mode = tree.IntField(fields.of_event(kind)[f"{kind.label}.{field}"])
    return tree.Member(tree.IntOp("&", mode, tree.IntConst(0o170000)), frozenset(types))


def _above(matcher: Matcher, kind: EventType) -> Matcher:
    """Return a matcher for the directories above the paths that a matcher matches.

    The kernel filters a glob that ends in a name by that name. For a directory that ends in a star it has to
    forward all events below the directory before the star, which renames alone are worth.
    """
    exact = {directory for path in matcher.exact for directory in _directories(path)}
    patterns: dict[Pattern, None] = {}
    for pattern in matcher.patterns:
        text = pattern.prefix if pattern.kind == "regex" else pattern.text
        for directory in _directories(text):
            if b"*" not in directory or pattern.kind != "glob":
                exact.add(directory)
                continue
            above = Pattern("glob", directory, path=True)
            if kind is EventType.RENAME or above.last_component or not pattern.last_component:
                patterns[above] = None
    return Matcher(frozenset(exact), tuple(patterns))


def _directories(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path or glob, without `/`, up to a component that has a `**`."""
    components = path.split(b"/")[1:-1] if path.startswith(b"/") else []
    for count, component in enumerate(components, 1):
        if b"**" in component:
            return
        yield b"/" + b"/".join(components[:count])
