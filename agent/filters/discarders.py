"""Learns discarders, files and directories that no rule can match, from events that matched no rule.

Two proofs are tried. For a directory one, two or three levels above the file: no rule of an event type
matches any path at that depth below it. For the file itself: no rule matches its path. A proof is an
evaluation of the rules in three values in which everything but the path is unknown; only a definite False is
a proof.

The following are never discarded: `/`; a file with more than one name, because a rule may match its other
path; a file whose path is uncertain, or lies below a directory so deep that the path may be truncated;
process events, which the context needs. An event with two files (rename, link) is discarded for a directory
only if no rule matches with either file there and the other one anywhere. Otherwise a move out of a discarded
directory into a watched one would be hidden.
"""

from __future__ import annotations

import stat
from typing import NamedTuple
from weakref import WeakKeyDictionary

from agent.events.model import PROCESS_EVENTS, TWO_PATHS, Event, File, FileFlags
from agent.filters import proofs
from agent.rules import tree
from agent.rules.engine import Ruleset

LEVELS = 3
UNCERTAIN = FileFlags.TRUNCATED | FileFlags.AS_GIVEN | FileFlags.DETACHED | FileFlags.DELETED
MAX_PATH = 4_096  # bytes of a path; of a longer path the kernel reports only the tail
MAX_NAME = 255  # bytes of a component
MAX_CACHED = 8_192  # directories whose proof is cached


class Discard(NamedTuple):
    """Events of `types`, a mask, can be dropped.

    `level` is 0 for the file's inode, 1 to 3 for a directory above it.
    """

    level: int
    types: int


class Known(NamedTuple):
    """What a proof knows about one file of an event.

    With `depth` 0 `path` is the file's path, otherwise a directory `depth` levels above the file.
    """

    slot: str
    path: bytes
    depth: int = 0

    def ask(self, leaf: tree.Condition) -> bool | None:
        """Evaluate a leaf of a condition; None if the path does not decide it."""
        if not isinstance(leaf, tree.Match):
            return None
        if leaf.field.role == f"{self.slot}.path":
            if self.depth:
                return leaf.matcher.below(self.path, self.depth)
            return leaf.matcher.matches(self.path)
        if leaf.field.role == f"{self.slot}.name" and not self.depth:
            return leaf.matcher.matches(self.path.rpartition(b"/")[2])
        return None


def impossible(form: tree.Condition, known: Known) -> bool:
    """Whether no rule of this form can match an event with this file."""
    return tree.decide(form, known.ask) is False


class Learner:
    """Finds discards for one rule set, with a cache of the proofs for directories."""

    def __init__(self, ruleset: Ruleset) -> None:
        rules = {kind: rules for kind, rules in ruleset.by_type.items() if kind not in PROCESS_EVENTS}
        self._forms = proofs.forms(rules, dict.fromkeys(TWO_PATHS, ("file", "file2")))
        hopeless = sum(types for form, types in self._forms if form == tree.TRUE)
        self._types = sum(kind.mask for kind in rules) & ~hopeless  # types for which a proof is possible
        self._directories: dict[tuple[bytes, int], int] = {}

    def learn(self, event: Event) -> tuple[Discard, ...]:
        """Return all discards that an event proves which matched no rule."""
        if not _certain(event):
            return ()
        found = [
            discard for level in range(1, LEVELS + 1) if (discard := self._above(event.file, level)).types
        ]
        leaf = self._leaf(event.file)
        return (leaf, *found) if leaf.types else tuple(found)

    def best(self, event: Event) -> Discard | None:
        """Return the discard that stops the most events like this one, or None."""
        if not (_certain(event) and event.type.mask & self._types):
            return None
        for level in range(LEVELS, 0, -1):
            if (discard := self._above(event.file, level)).types & event.type.mask:
                return discard
        leaf = self._leaf(event.file)
        return leaf if leaf.types & event.type.mask else None

    def _leaf(self, file: File) -> Discard:
        one_name = file.nlink == 1 or stat.S_ISDIR(file.mode)
        if not one_name or not file.identities[0] or file.path == b"/":
            return Discard(0, 0)
        return Discard(0, self._mask(Known("file", file.path)))

    def _above(self, file: File, level: int) -> Discard:
        directory = file.path.rsplit(b"/", level)[0]
        known = file.identities[level]
        if not known or not directory or file.path.count(b"/") <= level or _can_be_cut(directory, level):
            return Discard(level, 0)
        key = (directory, level)
        types = self._directories.get(key)
        if types is None:
            if len(self._directories) >= MAX_CACHED:
                self._directories.clear()
            types = self._directories[key] = self._mask(Known("file", directory, level))
        return Discard(level, types)

    def _mask(self, known: Known) -> int:
        possible = 0
        for form, types in self._forms:
            if types & ~possible and not impossible(form, known):
                possible |= types
        return self._types & ~possible


def _can_be_cut(directory: bytes, level: int) -> bool:
    """Whether a path `level` components below a directory may be truncated, so that the proof does not hold.

    The limit of 256 components needs no check: it truncates all paths at that depth, or none.
    """
    return len(directory) + level * (MAX_NAME + 1) >= MAX_PATH


def _certain(event: Event) -> bool:
    file = event.file
    return file.path.startswith(b"/") and not file.flags & UNCERTAIN and event.type not in PROCESS_EVENTS


_learners: WeakKeyDictionary[Ruleset, Learner] = WeakKeyDictionary()


def learn(ruleset: Ruleset, event: Event) -> tuple[Discard, ...]:
    """Call `Learner.learn` of the learner of this rule set."""
    return _learner(ruleset).learn(event)


def best(ruleset: Ruleset, event: Event) -> Discard | None:
    """Call `Learner.best` of the learner of this rule set."""
    return _learner(ruleset).best(event)


def _learner(ruleset: Ruleset) -> Learner:
    learner = _learners.get(ruleset)
    if learner is None:
        learner = _learners[ruleset] = Learner(ruleset)
    return learner
