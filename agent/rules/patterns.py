"""Matches strings against exact values, globs and regular expressions.

Patterns also answer the questions of the filters: which prefix or base name all matches share, and whether
paths below a directory can match.
"""

from __future__ import annotations

from functools import cached_property

from agent.rules import regex
from agent.rules.automaton import Automaton


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
        return value in self.exact or any(pattern.matches(value) for pattern in self.patterns)

    def below(self, directory: bytes, depth: int) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths `depth` components below match."""
        verdict: bool | None = (
            None if any(_is_below(value, directory, depth) for value in self.exact) else False
        )
        for pattern in self.patterns:
            answer = pattern.below(directory, depth)
            if answer:
                return True
            verdict = None if answer is None else verdict
        return verdict


def _is_below(path: bytes, directory: bytes, depth: int) -> bool:
    return path.startswith(directory + b"/") and path.count(b"/", len(directory)) == depth
