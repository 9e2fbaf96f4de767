"""Extends rules on renamed files to the rename of a directory above the files that they watch.

A rename of `/srv/keep` moves everything below it away from the paths that rules have, or to them. So a
rule on `rename` that names a path matches the rename of a directory above that path as well. Of a glob these
are the directories that its components name, up to the first `**`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from agent.events.model import EventType
from agent.rules import fields, tree
from agent.rules.patterns import Matcher, Pattern

_MODE = fields.of_event(EventType.RENAME)["rename.file.mode"]
# The mode is 0 where only the arguments of the system call are known.
_DIRECTORY = tree.Member(
    tree.IntOp("&", tree.IntField(_MODE), tree.IntConst(0o170000)), frozenset({stat.S_IFDIR, 0})
)


def extend(condition: tree.Condition) -> tree.Condition:
    """Return the condition of a rename rule that matches renames of directories above as well.

    What the rule matches already it still matches: only comparisons that are not negated get alternatives.
    """
    return _extend(tree.push(condition))


def _extend(condition: tree.Condition) -> tree.Condition:
    if isinstance(condition, tree.All):
        return tree.All(tuple(map(_extend, condition.items)))
    if isinstance(condition, tree.Any):
        return tree.Any(tuple(map(_extend, condition.items)))
    if isinstance(condition, tree.Match) and condition.field.role in (fields.FILE_PATH, fields.FILE2_PATH):
        above = _above(condition.matcher)
        if above.exact or above.patterns:
            return tree.Any((condition, tree.All((tree.Match(condition.field, above), _DIRECTORY))))
    return condition


def _above(matcher: Matcher) -> Matcher:
    """Return a matcher for the directories above the paths that a matcher matches."""
    exact = {directory for path in matcher.exact for directory in _directories(path)}
    patterns: dict[Pattern, None] = {}
    for pattern in matcher.patterns:
        text = pattern.prefix if pattern.kind == "regex" else pattern.text
        for directory in _directories(text):
            if b"*" in directory and pattern.kind == "glob":
                patterns[Pattern("glob", directory, path=True)] = None
            else:
                exact.add(directory)
    return Matcher(frozenset(exact), tuple(patterns))


def _directories(path: bytes) -> Iterator[bytes]:
    """Yield the directories above a path or glob, without `/`, up to a component that has a `**`."""
    components = path.split(b"/")[1:-1] if path.startswith(b"/") else []
    for count, component in enumerate(components, 1):
        if b"**" in component:
            return
        yield b"/" + b"/".join(components[:count])
