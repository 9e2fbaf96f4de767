"""Matches strings against exact values, globs and regular expressions.

Patterns also answer the questions of the filters: which prefix or base name all matches share, and whether
paths below a directory can match. Of a truncated path they answer whether it may match.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from agent.rules import regex
from agent.rules.automaton import Automaton

MAX_DEPTH = 3  # components below a directory that `below` is asked for


class Pattern:
    """A glob that covers a whole text, or a regular expression that is searched; compiled when first used.

    With `path` a `*` of a glob stays within a component. Raises PatternError for an invalid pattern.
    """

    def __init__(self, kind: str, text: bytes, *, path: bool = False) -> None:
        self.kind = kind
        self.text = text
        self.path = path
        self._tree = regex.search(text) if kind == "regex" else regex.glob(text, path=path)
        if regex.size(self._tree) > regex.MAX_POSITIONS:
            raise regex.PatternError(f"the pattern has more than {regex.MAX_POSITIONS} symbols")

    def __repr__(self) -> str:
        return f"Pattern({self.kind!r}, {self.text!r}, path={self.path})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pattern) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, bytes, bool]:
        return self.kind, self.text, self.path

    @cached_property
    def automaton(self) -> Automaton:
        """The compiled pattern."""
        return Automaton(self._tree)

    @cached_property
    def prefix(self) -> bytes:
        """The prefix that all matches share."""
        return self.text.partition(b"*")[0] if self.kind == "glob" else self.automaton.forced()

    @cached_property
    def directory(self) -> bytes:
        """The directory that all matches lie in, with a slash at its end, or b""."""
        return self.prefix[: self.prefix.rfind(b"/") + 1]

    @cached_property
    def last_component(self) -> bytes:
        """The base name that all matches share, or b""."""
        if self.kind == "regex" or not self.path:
            return b""
        name = self.text.rpartition(b"/")[2]
        return b"" if b"*" in name or b"/" not in self.text else name

    def matches(self, value: bytes) -> bool:
        """Whether a text matches; takes time linear in its length."""
        return value.startswith(self.prefix) and self.automaton.matches(value)

    def below(self, directory: bytes, depth: int) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths `depth` components below match."""
        return self.automaton.below(directory, depth)

    def ends(self, tail: bytes) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths that end in `/...` match."""
        return self.automaton.ends(tail)


class Matcher:
    """A set of values and patterns; a text matches if it matches one of them."""

    def __init__(self, exact: frozenset[bytes], patterns: tuple[Pattern, ...] = ()) -> None:
        self.exact = exact
        self.patterns = patterns

    def __repr__(self) -> str:
        return f"Matcher({sorted(self.exact)!r}, {self.patterns!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Matcher) and (self.exact, self.patterns) == (other.exact, other.patterns)

    def __hash__(self) -> int:
        return hash((self.exact, self.patterns))

    def matches(self, value: bytes) -> bool:
        """Whether a text matches."""
        return value in self.exact or any(pattern.matches(value) for pattern in self._at_or_above(value))

    def below(self, directory: bytes, depth: int) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths `depth` components below match."""
        verdict = None if (directory, depth) in self._exact_below else False
        for pattern in self._at_or_above(directory + b"/"):
            answer = pattern.below(directory, depth)
            if answer:
                return True
            verdict = None if answer is None else verdict
        # The other patterns lie in directories below this one, so none of them matches all paths.
        if verdict is None:
            return None
        lower = self._patterns_below.get((directory, depth), ())
        return None if any(pattern.below(directory, depth) is None for pattern in lower) else False

    def ends(self, tail: bytes) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths that end in `tail` match.

        A tail consists of whole components; an empty one is the end of every path.
        """
        end = b"/" + tail if tail else b""
        fits = len(end) <= self._longest and any(value.endswith(end) for value in self.exact)
        verdict = None if fits else False
        for pattern in self.patterns:
            answer = pattern.ends(end)
            if answer:
                return True
            verdict = None if answer is None else verdict
        return verdict

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self.exact), default=-1)

    def _at_or_above(self, path: bytes) -> Iterator[Pattern]:
        """Yield the patterns that can match a path with this beginning, by the directories of the path."""
        yield from self._by_directory.get(b"", ())
        at = path.find(b"/")
        while at >= 0:
            yield from self._by_directory.get(path[: at + 1], ())
            at = path.find(b"/", at + 1)

    @cached_property
    def _by_directory(self) -> Mapping[bytes, list[Pattern]]:
        found: dict[bytes, list[Pattern]] = {}
        for pattern in self.patterns:
            found.setdefault(pattern.directory, []).append(pattern)
        return found

    @cached_property
    def _exact_below(self) -> frozenset[tuple[bytes, int]]:
        """Directories with the number of components from them to an exact value."""
        return frozenset(
            (value.rsplit(b"/", depth)[0], depth)
            for value in self.exact
            for depth in range(1, min(MAX_DEPTH, value.count(b"/")) + 1)
        )

    @cached_property
    def _patterns_below(self) -> Mapping[tuple[bytes, int], list[Pattern]]:
        """Patterns that lie below a directory, by that directory and the components that their paths need."""
        found: dict[tuple[bytes, int], list[Pattern]] = {}
        for pattern in self.patterns:
            above = pattern.directory[:-1]
            for missing in range(1, MAX_DEPTH):
                above, slash, _ = above.rpartition(b"/")
                if not slash:
                    break
                for depth in range(missing + 1, MAX_DEPTH + 1):
                    found.setdefault((above, depth), []).append(pattern)
        return found
