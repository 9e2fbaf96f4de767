"""Runs lookups of files in threads: a file system that does not answer, as of a lost server, blocks them.

A user who can put a symbolic link on the way of a path that a rule names chooses that file system.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Aside(threading.Thread, Generic[Result]):
    """One call in a thread, which does not keep the process from ending. The call raises no error."""

    def __init__(self, call: Callable[[], Result]) -> None:
        super().__init__(name="lookup", daemon=True)
        self._call = call
        self.results: tuple[Result, ...] = ()  # one, once the call has returned
        self.start()

    def run(self) -> None:
        """Make the call."""
        self.results = (self._call(),)

    def wait(self, seconds: float, progress: Callable[[], int] = int) -> bool:
        """Return whether the call has returned; wait `seconds` for that after each change of `progress`."""
        before = -1
        while self.is_alive() and (now := progress()) != before:
            before = now
            self.join(seconds)
        return not self.is_alive()
