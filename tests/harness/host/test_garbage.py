"""The collector is paused for a block, also if it fails, and stays off where it is off."""

from __future__ import annotations

import gc

import pytest

from harness.host import garbage


def test_it_is_on_again_after_a_failure() -> None:
    def fail() -> None:
        with garbage.paused():
            assert not gc.isenabled()
            raise ValueError("x")

    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"):
        fail()
    assert gc.isenabled()


def test_blocks_can_be_nested() -> None:
    with garbage.paused():
        with garbage.paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
