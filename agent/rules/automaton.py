"""Patterns as automata.

Matching takes time linear in the text, whatever the pattern, and proofs can be asked.

A pattern becomes a position automaton (Glushkov): one state a symbol of the pattern, sets of states as bit
masks. Sets met while matching are numbered and remembered, up to a bound, so that a match is one table
look-up a byte.

Beside matching, an automaton tells what could still match below a directory: `below(directory, depth)`.
Discarders rest on it.
"""

from __future__ import annotations

from collections.abc import Iterator

from agent.rules.regex import BYTES, END, MAX_POSITIONS, START, Alt, PatternError, Star, Symbols, Tree

MAX_SETS = 1_024  # sets of states remembered before the memory starts over
_NOT_SLASH = BYTES & ~(1 << 0x2F)
_DEAD, _SURE = 0, 1


class _Positions:
    """Numbers the symbols of a tree and finds which may follow which."""

    def __init__(self) -> None:
        self.masks: list[int] = []
        self.follow: list[int] = []

    def add(self, tree: Tree) -> tuple[bool, int, int]:
        """Whether the tree matches nothing at all, and the sets of its first and of its last positions."""
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
    """Positions of the bits that are set, lowest first."""
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
        """Leave only ways that lead to a match now that the start is behind: then no state means no match."""
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
        """Those of the positions that read one of the symbols."""
        kept = 0
        for position in bits(states):
            if self._masks[position] & symbols:
                kept |= 1 << position
        return kept

    def _next(self, states: int) -> int:
        """Positions that may come next."""
        found = 0
        for position in bits(states):
            found |= self._follow[position]
        return found

    def _number(self, states: int) -> int:
        if not states:
            return _DEAD
        number = self._numbers.get(states)
        if number is None:
            number = self._numbers[states] = _SURE if self._sure(states) else len(self._rows)
            if number != _SURE:
                self._rows.append({})
                self._sets.append(states)
        return number

    def _sure(self, states: int) -> bool:
        """Whether every continuation matches: some position reads everything, the end included, for ever."""
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
        """Positions that one or more of these symbols lead to."""
        found = 0
        fresh = self._filter(self._next(states), symbols)
        while fresh & ~found:
            found |= fresh
            fresh = self._filter(self._next(found), symbols)
        return found

    def _accepts(self, states: int) -> bool:
        """Whether the text may end here; each end may be read twice, for patterns such as `^(^|/)a`."""
        return bool(self._repeat(states, 1 << END) & self._last)

    def matches(self, value: bytes) -> bool:
        """Whether the pattern matches a text."""
        if len(self._rows) > MAX_SETS:
            self._forget()
        state = self._first
        rows = self._rows
        for byte in value:
            if state <= _SURE:
                break
            known = rows[state].get(byte)
            state = self._step(state, byte) if known is None else known
        return state == _SURE or (state != _DEAD and self._end(state))

    def _end(self, state: int) -> bool:
        known = self._ends.get(state)
        if known is None:
            known = self._ends[state] = self._accepts(self._sets[state])
        return known

    def below(self, directory: bytes, depth: int) -> bool | None:
        """Whether the paths `depth` components below a directory match.

        All (True), none (False), or it depends (None).

        `directory` has no slash at its end; the root is b"".
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
        """Whether some position reads all these symbols for ever and may stop at any time."""
        return any(
            self._masks[position] & symbols == symbols
            and self._follow[position] >> position & 1
            and self._accepts(1 << position)
            for position in bits(self._next(states))
        )

    def forced(self) -> bytes:
        """The bytes that every match begins with."""
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
