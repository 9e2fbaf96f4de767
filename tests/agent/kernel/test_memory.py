"""Freed memory is returned where the C library can."""

from __future__ import annotations

import ctypes
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent.kernel import memory


def test_freed_pages_are_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be: 0 bytes stay at the top of the heap."""
    calls: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: SimpleNamespace(malloc_trim=calls.append))
    memory.release()
    assert calls == [0]


def test_a_c_library_without_malloc_trim_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is asked, and nothing is raised."""
    asked: list[str] = []

    class Library:
        def __getattr__(self, name: str) -> object:
            asked.append(name)
            raise AttributeError(name)

    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Library())
    memory.release()
    assert asked == ["malloc_trim"]


def test_this_c_library_returns_freed_pages() -> None:
    """Also those below a block that is still in use, which `free` alone keeps."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, (ctypes.c_size_t,)
    libc.free.argtypes = (ctypes.c_void_p,)
    blocks = [libc.malloc(1024) for _ in range(32 << 10)]
    for block in blocks:
        ctypes.memset(block, 1, 1024)
    for block in blocks[:-1]:
        libc.free(block)
    before = _resident()
    memory.release()
    after = _resident()
    libc.free(blocks[-1])
    assert before - after > 24 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
