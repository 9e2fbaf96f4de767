"""The changes of files that match a rule although it names others, for the naive evaluator.

An exchange of two files is the rename of the second one as well. A change of a directory or link changes what
lies at the paths below.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from tests.campaigns.law.naive_values import Event, any_of

Known = bool | None
_EXCHANGE = 2


def exchanged(event: Event) -> Known:
    """Return whether an event is the exchange of two files."""
    if not any(name.startswith("rename.") for name in event):
        return False
    flags = event.get("rename.flags")
    return bool(flags & _EXCHANGE) if isinstance(flags, int) else None


def swapped(event: Event) -> Event:
    """Return the rename of the second file to the name of the first one."""
    first, second = "rename.file.", "rename.file.destination."
    found = {name: value for name, value in event.items() if not name.startswith(first)}
    for name, value in event.items():
        if name.startswith(second):
            found[f"{first}{name[len(second) :]}"] = value
        elif name.startswith(first):
            found[f"{second}{name[len(first) :]}"] = value
    return found


# The files of an event whose paths lead to other files after it.
CHANGED = {
    "rename": ("file", "file.destination"),
    "symlink": ("file",),
    "link": ("file.destination",),
    "unlink": ("file",),
}
_DIRECTORY, _LINK = 0o040000, 0o120000
_WATCHED = re.compile(
    r"(?P<kind>rename|symlink|link|unlink|fim\.write)\.(?P<file>file|file\.destination)\.path"
    r' (?:==|=~) "(?P<path>/[^"\\\\?$]*)"'
)


def changes_above(expression: str, kind: str, event: Event) -> Known:
    """Return whether an event changes a directory or link above a path of the rule: then it matches as well.

    Known of a rule that is one comparison of a path.
    """
    leads, retval = _leads(kind, event), event.get(f"{kind}.retval", 0)
    if leads is False and isinstance(retval, int) and retval < 0:
        leads = None  # the agent may not know what the kernel refused to move
    paths = {file: event.get(f"{kind}.{file}.path") for file in CHANGED[kind]}
    watched = _WATCHED.fullmatch(expression)
    if not watched:
        some = "*" in expression or 'r"' in expression or "\\" in expression  # an escape may be any text
        above = some or any(f"{path}/" in expression for path in paths.values())
        return None if above and leads is not False else False
    stars = "=~" in expression
    *components, last = watched["path"].split("/")[1:]
    upper = list(takewhile(lambda part: not stars or "**" not in part, components))
    literal = stars and "*" not in last and kind != "rename"
    if watched["kind"] != "fim.write":
        paths = {file: path for file, path in paths.items() if file == watched["file"]}
    above = any(_names(upper, path, stars=stars, literal=literal) for path in paths.values())
    return leads if above else False


def _leads(kind: str, event: Event) -> Known:
    """Return whether a file of the event is a directory or a symbolic link, which lead to other files."""
    if kind == "symlink":
        return True
    mode = event.get(f"{kind}.file.mode")
    types = (_DIRECTORY, _LINK) if kind == "rename" else (_LINK,)
    first = mode & 0o170000 in types if isinstance(mode, int) and mode & 0o170000 else None
    if kind != "rename":
        return first
    mode = event.get("rename.file.destination.mode")
    if not isinstance(mode, int) or (exchanged(event) and not mode & 0o170000):
        return any_of([first, None])  # both files of an exchange exist: one without a type is not known
    return any_of([first, mode & 0o170000 in types])


def _names(components: Sequence[str], path: object, *, stars: bool, literal: bool) -> bool:
    """Return whether the path is the directory that the first of these components name.

    :param literal: of the last one of them, without a star
    """
    if not isinstance(path, str) or not path.startswith("/") or path == "/":
        return False
    parts = path.split("/")[1:]
    if len(parts) > len(components) or (literal and "*" in components[len(parts) - 1]):
        return False
    return all(
        re.fullmatch(".*".join(map(re.escape, pattern.split("*" if stars else "/"))), part, re.DOTALL)
        for pattern, part in zip(components, parts, strict=False)
    )
