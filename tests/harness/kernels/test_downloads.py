"""The number of downloads from one archive at the same time is limited."""

from __future__ import annotations

import contextlib

from harness.kernels.downloads import PER_ARCHIVE, turn


def test_each_archive_has_a_few_turns() -> None:
    """One that is busy does not keep others waiting."""
    with contextlib.ExitStack() as held:
        for number in range(PER_ARCHIVE):
            held.enter_context(turn(f"http://busy.example:8080/{number}"))
        assert not turn("http://busy.example:8080/more").acquire(blocking=False)
        held.enter_context(turn("http://idle.example/"))
    with turn("http://busy.example:8080/more"):
        pass
