"""How long work says what it is doing: a callable that takes one line.

The library prints nothing. Whoever starts the work passes a `Progress` and decides where its lines go.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Takes one line, without its end, that a person who waits wants to read."""

    def __call__(self, line: str, /) -> None:
        """Shows the line, or keeps it, or neither; must not fail."""


def silent(line: str, /) -> None:
    """Says nothing."""
