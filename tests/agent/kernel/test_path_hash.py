"""The hash of names. test_programs.py and the guests show that the kernel computes the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.kernel import path_hash


def test_pinned() -> None:
    """The hash function must not change by accident."""
    assert path_hash.component(b"passwd") == 0xB8BB285A77B4B390
    assert path_hash.path(b"/etc/passwd") == 0x9C8896F33A18B38F


def test_the_root_is_the_seed() -> None:
    assert path_hash.path(b"/") == path_hash.path(b"") == path_hash.SEED


@given(st.binary(max_size=255))
def test_length_counts(name: bytes) -> None:
    """A name and the same name with a zero byte have different hashes."""
    assert path_hash.component(name) != path_hash.component(name + b"\0")


def test_order_counts() -> None:
    assert path_hash.path(b"/a/b") != path_hash.path(b"/b/a")
