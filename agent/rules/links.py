"""Finds rules that name a symbolic link.

The kernel resolves links before it reports a path, so a rule on `/bin/sh` never matches where `/bin` is a
link to `usr/bin`. The rules stay as they are; the user gets a line with the link and the path of the events.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from agent.events.model import EventType
from agent.rules import tree
from agent.rules.aside import Aside
from agent.rules.engine import CompiledRule, Ruleset
from agent.rules.fields import ON_NAMES, Field
from agent.rules.patterns import Matcher
from agent.rules.problems import clean
from agent.rules.trust import MAX_LINKS

ANSWER_S = 5.0  # how long no path may be looked up while rules are loaded
RECHECK_S = 0.2  # how long the event loop may wait: events meanwhile lie in the ring buffer
SILENT = "a file system does not answer: whether rules name symbolic links is not known yet"

_PROGRAMS = (b"/usr/local/sbin", b"/usr/local/bin", b"/usr/sbin", b"/usr/bin", b"/sbin", b"/bin")


class Resolved(NamedTuple):
    """A path without links, and the first link on the way with its text; both are empty without a link."""

    path: bytes
    link: bytes = b""
    target: bytes = b""


class Links:
    """Resolves paths below `root`, and remembers which names are links."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root).rstrip(b"/")
        self._targets: dict[bytes, bytes] = {}
        self.reads = 0

    def resolve(self, path: bytes, *, last: bool = True) -> Resolved:
        """Follow the links of an absolute path, in its last component only with `last`.

        A name that does not exist is no link. A loop of links resolves to the path itself.
        """
        here, first, count = b"", Resolved(path), 0
        pending = path.split(b"/")[:0:-1]
        while pending:
            name = pending.pop()
            if name == b"..":
                here = here.rpartition(b"/")[0]
            if name in (b"", b".", b".."):
                continue
            entry = here + b"/" + name
            target = self._target(entry) if pending or last else b""
            if not target:
                here = entry
                continue
            count += 1
            if count > MAX_LINKS:
                return Resolved(path)
            first = first if first.link else Resolved(path, entry, target)
            here = b"" if target.startswith(b"/") else here
            pending += target.split(b"/")[::-1]
        return first._replace(path=here or b"/")

    def changed(self) -> bool:
        """Whether a link that was followed has changed, or a name that was none became one."""
        return any(self._read(path) != target for path, target in self._targets.items())

    def _target(self, path: bytes) -> bytes:
        known = self._targets.get(path)
        if known is None:
            known = self._targets[path] = self._read(path)
        return known

    def _read(self, path: bytes) -> bytes:
        self.reads += 1
        try:
            return os.readlink(self._root + path)  # noqa: PTH115 - names are bytes
        except OSError:
            return b""


class _Lines(NamedTuple):
    """Lines about links, and the links that they rest on."""

    links: Links
    lines: tuple[str, ...]


class Warnings:
    """A line for each path or program name of a rule that only a symbolic link has.

    A rule that also names the path without links gets no line. If a file system does not answer, the only
    line is SILENT, and `new` returns the others later.
    """

    def __init__(self, ruleset: Ruleset, root: Path = Path("/"), answer_s: float = ANSWER_S) -> None:
        self._ruleset = ruleset
        self._root = root
        self._links = Links(root)
        self.lines: tuple[str, ...] = (SILENT,)
        links = Links(root)
        self._looking: Aside[_Lines] | None = Aside(lambda: self._find(links))
        self._collect(answer_s, lambda: links.reads)

    def new(self) -> tuple[str, ...]:
        """Return the lines that are new since the last call, because a link has changed."""
        before = set(self.lines)
        self._looking = self._looking or Aside(self._again)
        self._collect(RECHECK_S)
        return tuple(line for line in self.lines if line not in before)

    def _collect(self, seconds: float, progress: Callable[[], int] = int) -> None:
        if self._looking and self._looking.wait(seconds, progress):
            ((self._links, self.lines),) = self._looking.results
            self._looking = None

    def _again(self) -> _Lines:
        return self._find(Links(self._root)) if self._links.changed() else _Lines(self._links, self.lines)

    def _find(self, links: Links) -> _Lines:
        compiled = (rule for rules in self._ruleset.by_type.values() for rule in rules)
        return _Lines(
            links, tuple(dict.fromkeys(line for rule in compiled for line in _of_rule(rule, links)))
        )


class _Beside:
    """All constants that a rule compares one field with, as one matcher."""

    def __init__(self, leaves: list[tree.Match], field: Field) -> None:
        matchers = [leaf.matcher for leaf in leaves if leaf.field == field]
        patterns = dict.fromkeys(pattern for each in matchers for pattern in each.patterns)
        self.matcher = Matcher(frozenset().union(*(each.exact for each in matchers)), tuple(patterns))
        self._prefixes = sorted({pattern.prefix.rstrip(b"/") for pattern in patterns} - {b""})
        self._known = frozenset(self._prefixes)

    def covers(self, directory: bytes) -> bool:
        """Whether a pattern has matches in or above a directory, by the beginning that its matches share."""
        if any(directory[:length] in self._known for length in range(1, len(directory) + 1)):
            return True
        at = bisect_left(self._prefixes, directory)
        return at < len(self._prefixes) and self._prefixes[at].startswith(directory)


def _of_rule(rule: CompiledRule, links: Links) -> Iterator[str]:
    leaves = list(_leaves(rule.condition))
    by_field = {field: _Beside(leaves, field) for field in dict.fromkeys(leaf.field for leaf in leaves)}
    head = f"{rule.rule.file}:{rule.rule.line}: rule `{rule.id}` names"
    for leaf in leaves:
        name = leaf.field.name
        beside = by_field[leaf.field]
        if leaf.field.path and not name.startswith("exec.script."):
            last = rule.type not in ON_NAMES or name.startswith("process.")
            for text, found in _paths(leaf.matcher, beside, links, last=last):
                via = f"the symbolic link {_text(found.link)} -> {_text(found.target)}"
                yield clean(f"{head} {text}, which leads through {via}: events have {_text(found.path)}")
        elif name.endswith("file.name") and (name.startswith("process.") or rule.type is EventType.EXEC):
            for text, found in _programs(leaf.matcher, beside, links):
                via = f"the symbolic link {_text(found.link)}"
                yield clean(f"{head} {text}, which is {via}: events have {_text(found.path)}")


def _leaves(condition: tree.Condition) -> Iterator[tree.Match]:
    if isinstance(condition, tree.Match):
        yield condition
    elif isinstance(condition, tree.Not):
        yield from _leaves(condition.item)
    elif isinstance(condition, tree.All | tree.Any):
        for item in condition.items:
            yield from _leaves(item)


def _paths(matcher: Matcher, beside: _Beside, links: Links, *, last: bool) -> Iterator[tuple[str, Resolved]]:
    for path in sorted(matcher.exact):
        found = links.resolve(path, last=last) if path.startswith(b"/") else Resolved(path)
        if found.link and not beside.matcher.matches(found.path):
            yield _text(path), found
    for pattern in matcher.patterns:
        directory = pattern.prefix.rpartition(b"/")[0] if pattern.kind == "glob" else b""
        found = links.resolve(directory) if directory else Resolved(b"")
        if found.link and not beside.covers(found.path):
            yield _text(pattern.text), found._replace(path=found.path + pattern.text[len(directory) :])


def _programs(matcher: Matcher, beside: _Beside, links: Links) -> Iterator[tuple[str, Resolved]]:
    for name in sorted(matcher.exact):
        places = (links.resolve(folder + b"/" + name) for folder in _PROGRAMS if name and b"/" not in name)
        renamed = [found for found in places if found.path.rpartition(b"/")[2] != name]
        found = renamed[0] if renamed else Resolved(b"")
        if found.link and not beside.matcher.matches(found.path.rpartition(b"/")[2]):
            yield _text(name), found


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
