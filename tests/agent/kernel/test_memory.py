"""Freed memory is returned where the C library can."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from agent.kernel import memory


def test_freed_pages_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be: 0 bytes stay at the top of the heap."""
    calls: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(malloc_trim=calls.append))
    memory.release()
    assert calls == [0]


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace())
    memory.release()


def test_this_c_library_accepts_the_call() -> None:
    memory.release()
