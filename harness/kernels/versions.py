"""The order of Debian package versions, as Debian Policy 5.6.12 and deb-version(7) define it."""

from __future__ import annotations

import re
from functools import total_ordering
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


@total_ordering
class Version:
    """A version that compares as dpkg compares it: epoch, upstream version, Debian revision."""

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.partition(":")
        if not colon:
            epoch, rest = "0", text
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
        self._key = (int(epoch), _Part(upstream), _Part(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Version({self.text!r})"


@total_ordering
class _Part:
    """Letters and numbers in turn; `~` sorts before the end, that before letters, those before the rest."""

    def __init__(self, text: str) -> None:
        self._runs = [(letters, int(digits or 0)) for letters, digits in _PARTS.findall(text)]
        while self._runs and self._runs[-1] == ("", 0):
            self._runs.pop()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Part) and self._runs == other._runs

    def __lt__(self, other: _Part) -> bool:
        for mine, theirs in zip_longest(self._runs, other._runs, fillvalue=("", 0)):
            if mine != theirs:
                return (_weights(mine[0]), mine[1]) < (_weights(theirs[0]), theirs[1])
        return False

    def __hash__(self) -> int:
        return hash(tuple(self._runs))


def _weights(letters: str) -> list[int]:
    """A 0 ends the list, so that a shorter run sorts as its end does: after `~`, before all else."""
    return [_weight(letter) for letter in letters] + [0]


def _weight(letter: str) -> int:
    if letter == "~":
        return -1
    return ord(letter) if letter.isalpha() else ord(letter) + 256
