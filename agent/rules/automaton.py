"""Compiles globs and regular expressions to automata.

Matching takes time linear in the text, whatever the pattern.

A pattern becomes a position automaton (Glushkov): one state for each symbol of the pattern, sets of states as
bit masks. The sets that occur while matching are numbered and cached, up to a bound, so that matching takes
one table look-up for each byte.

`below(directory, depth)` decides whether paths below a directory can match. Discarders are derived from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from agent.rules.regex import BYTES, END, MAX_POSITIONS, START, Alt, PatternError, Star, Symbols, Tree

MAX_SETS = 1_024  # sets of states in the cache; beyond it the cache is cleared
_NOT_SLASH = BYTES & ~(1 << 0x2F)
_NEVER, _ALWAYS = 0, 1


class _Positions:
    """Numbers the symbols of a tree and records which symbol may follow which."""

    def __init__(self) -> None:
        self.masks: list[int] = []
        self.follow: list[int] = []

    def add(self, tree: Tree) -> tuple[bool, int, int]:
        """Return whether the tree matches the empty text, and the sets of its first and last positions."""
        if isinstance(tree, Symbols):
            return self._symbol(tree.mask)
        if isinstance(tree, Star):
            _, first, last = self.add(tree.item)
            self._link(last, first)
            return True, first, last
        parts = [self.add(item) for item in tree.items]
        return self._alternatives(parts) if isinstance(tree, Alt) else self._sequence(parts)

    def _symbol(self, mask: int) -> tuple[bool, int, int]:
        if len(self.masks) >= MAX_POSITIONS:
            raise PatternError(f"the pattern has more than {MAX_POSITIONS} symbols")
        bit = 1 << len(self.masks)
        self.masks.append(mask)
        self.follow.append(0)
        return False, bit, bit

    def _link(self, last: int, first: int) -> None:
        for position in bits(last):
            self.follow[position] |= first

    @staticmethod
    def _alternatives(parts: list[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        empty, first, last = False, 0, 0
        for nullable, starts, ends in parts:
            empty, first, last = empty or nullable, first | starts, last | ends
        return empty, first, last

    def _sequence(self, parts: list[tuple[bool, int, int]]) -> tuple[bool, int, int]:
        empty, first, last = True, 0, 0
        for nullable, starts, ends in parts:
            self._link(last, starts)
            first |= starts if empty else 0
            last = (last | ends) if nullable else ends
            empty = empty and nullable
        return empty, first, last


def bits(mask: int) -> Iterator[int]:
    """Yield the positions of the bits that are set, lowest first."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class Automaton:
    """A compiled pattern over the symbols START, bytes, END."""

    def __init__(self, tree: Tree) -> None:
        positions = _Positions()
        _, first, last = positions.add(tree)
        self._masks = positions.masks
        self._follow = positions.follow
        self._last = last
        start = self._filter(first, 1 << START)
        start |= self._repeat(start, 1 << START)
        self._prune()
        self._start = sum(1 << state for state in bits(start) if self._follow[state])
        self._forget()

    def _prune(self) -> None:
        """Remove transitions that cannot lead to a match after the start: then an empty set is no match."""
        readable = self._filter((1 << len(self._masks)) - 1, BYTES | 1 << END)
        alive = self._filter(self._last, 1 << END)
        known = 0
        while alive != known:
            known = alive
            alive |= sum(1 << at for at, after in enumerate(self._follow) if after & known & readable)
        self._follow = [after & alive & readable for after in self._follow]

    def _forget(self) -> None:
        self._rows: list[dict[int, int]] = [{}, {}]
        self._sets: list[int] = [0, 0]
        self._numbers: dict[int, int] = {}
        self._ends: dict[int, bool] = {}
        self._first = self._number(self._start)

    def _filter(self, states: int, symbols: int) -> int:
        """Return those of the positions that read one of the symbols."""
        kept = 0
        for position in bits(states):
            if self._masks[position] & symbols:
                kept |= 1 << position
        return kept

    def _next(self, states: int) -> int:
        """Return the positions that may come next."""
        following = 0
        for position in bits(states):
            following |= self._follow[position]
        return following

    def _number(self, states: int) -> int:
        if not states:
            return _NEVER
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = _ALWAYS if self._always(states) else len(self._rows)
            if number != _ALWAYS:
                self._rows.append({})
                self._sets.append(states)
        return number

    def _always(self, states: int) -> bool:
        """Whether every continuation matches: one position accepts any symbol and the end, repeatedly."""
        everything = BYTES | 1 << END
        return any(
            self._masks[position] & everything == everything
            and self._follow[position] >> position & 1
            and self._last >> position & 1
            for position in bits(self._next(states))
        )

    def _step(self, state: int, byte: int) -> int:
        states = self._filter(self._next(self._sets[state]), 1 << byte)
        number = self._rows[state][byte] = self._number(states)
        return number

    def _repeat(self, states: int, symbols: int) -> int:
        """Return the positions that one or more of these symbols lead to."""
        reached = 0
        fresh = self._filter(self._next(states), symbols)
        while fresh & ~reached:
            reached |= fresh
            fresh = self._filter(self._next(reached), symbols)
        return reached

    def _accepts(self, states: int) -> bool:
        """Whether the text may end here; each end may be read twice, for patterns such as `^(^|/)a`."""
        return bool(self._repeat(states, 1 << END) & self._last)

    def matches(self, value: bytes) -> bool:
        """Whether the pattern matches the text `value`."""
        if len(self._rows) > MAX_SETS:
            self._forget()
        return self._matches_from(self._first, value)

    def ends(self, tail: bytes) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths with this end match.

        `tail` begins with a slash. True is never wrong, but not every pattern that matches all is found.
        """
        if len(self._rows) > MAX_SETS:
            self._forget()
        if not (self._any_end or self._matches_from(self._number(self._begun), tail)):
            return False
        if not (self._sure and self._matches_from(self._number(self._sure), tail)):
            return None
        return True if self._matches_from(self._first, tail) else None

    @cached_property
    def _begun(self) -> int:
        """The positions that some beginning of a path leads to; nothing is one."""
        return self._start | self._repeat(self._run(b"/"), BYTES)

    @cached_property
    def _any_end(self) -> bool:
        """Whether each path may match, by what its end does not show; as `/tmp/**`."""
        return self._loops(self._begun, BYTES)

    @cached_property
    def _sure(self) -> int:
        """Positions that every beginning of a path leads to, if it has a component: they accept all bytes."""
        return sum(
            1 << position
            for position in bits(self._next(self._run(b"/")))
            if self._masks[position] & BYTES == BYTES and self._follow[position] >> position & 1
        )

    def _matches_from(self, state: int, value: bytes) -> bool:
        rows = self._rows
        for byte in value:
            if state <= _ALWAYS:
                break
            known = rows[state].get(byte)
            state = self._step(state, byte) if known is None else known
        return state == _ALWAYS or (state != _NEVER and self._end(state))

    def _end(self, state: int) -> bool:
        known = self._ends.get(state)
        if known is None:
            known = self._ends[state] = self._accepts(self._sets[state])
        return known

    def below(self, directory: bytes, depth: int) -> bool | None:
        """Whether all (True), none (False) or some (None) of the paths `depth` components below match.

        `directory` has no trailing slash; the root is b"".
        """
        states = self._run(directory)
        for _ in range(depth):
            states = self._filter(self._next(states), 1 << 0x2F)
            if depth == 1 and self._loops(states, _NOT_SLASH):
                return True
            states = self._repeat(states, _NOT_SLASH)
        if states and self._loops(self._run(directory + b"/"), BYTES):
            return True
        return None if self._accepts(states) else False

    def _run(self, value: bytes) -> int:
        states = self._start
        for byte in value:
            states = self._filter(self._next(states), 1 << byte)
        return states

    def _loops(self, states: int, symbols: int) -> bool:
        """Whether one position accepts all these symbols repeatedly and may end after each."""
        return any(
            self._masks[position] & symbols == symbols
            and self._follow[position] >> position & 1
            and self._accepts(1 << position)
            for position in bits(self._next(states))
        )

    def forced(self) -> bytes:
        """Return the prefix that all matches share."""
        states, prefix = self._start, bytearray()
        while not self._accepts(states):
            following = self._next(states)
            union = 0
            for position in bits(following):
                union |= self._masks[position]
            if union.bit_count() != 1 or union.bit_length() > 256 or len(prefix) > 4096:
                break
            prefix.append(union.bit_length() - 1)
            states = following
        return bytes(prefix)
