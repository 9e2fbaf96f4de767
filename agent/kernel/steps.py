"""Shows an observer that a load or its end goes on: each program loaded, attached or detached is a step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

_observers: list[Callable[[], object]] = []


def taken() -> None:
    """Call the observers; the next step begins."""
    for observer in _observers:
        observer()


@contextlib.contextmanager
def observed(observer: Callable[[], object]) -> Iterator[None]:
    """Call `observer` at each step within the block. It must not raise: libbpf calls it, too."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)
