"""Describes one error in a rule file, with its place, as a few lines for the user."""

from __future__ import annotations

from typing import NamedTuple

MAX_SHOWN = 100  # characters of the excerpt
MAX_PROBLEMS = 500  # errors reported at once


class Problem(NamedTuple):
    """An error in a file. `line` and `column` count from 1, `at` is the offset in the text, or -1.

    `excerpt` is the line, `width` the number of characters to mark in it.
    """

    file: str
    line: int
    column: int
    message: str
    excerpt: str = ""
    width: int = 1
    hint: str = ""
    at: int = -1

    @property
    def summary(self) -> str:
        """The error in one line."""
        return f"{clean(self.file)}:{self.line}:{self.column}: {clean(self.message)}"

    def __str__(self) -> str:
        head = self.summary
        tail = [f"    {clean(self.hint)}"] if self.hint else []
        return "\n".join([head, *self._marked(), *tail])

    def _marked(self) -> list[str]:
        if not self.excerpt.strip():
            return []
        first = max(0, self.column - 1 - MAX_SHOWN // 2) if len(self.excerpt) > MAX_SHOWN else 0
        shown = self.excerpt[first : first + MAX_SHOWN]
        at = self.column - 1 - first
        width = max(1, min(self.width, len(shown) - at))
        return [f"    {clean(shown)}", f"    {' ' * at}{'^' * width}"]


class TooManyError(Exception):
    """Raised when `MAX_PROBLEMS` errors are recorded: reading on would only take time."""


class Problems:
    """The errors of all files, at most `MAX_PROBLEMS`."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, problem: Problem) -> None:
        """Record an error. Raises TooManyError with the last one."""
        self.found.append(problem)
        if len(self.found) >= MAX_PROBLEMS:
            raise TooManyError


def clean(text: str) -> str:
    """Replace each character that does not print by `?`, so that the text cannot control a terminal."""
    return "".join(char if char.isprintable() else " " if char == "\t" else "?" for char in text)
