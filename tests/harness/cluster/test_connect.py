"""What is said when no scheduler answers."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from harness.cluster import connect


@pytest.mark.parametrize(
    ("errors", "message"),
    [
        ([OSError("Timed out"), ConnectionRefusedError(111, "Connection refused")], "refused"),
        ([OSError("Timed out"), TimeoutError(), asyncio.CancelledError()], "Timed out"),
        ([OSError()], "OSError"),
    ],
)
def test_the_cause_of_an_error(errors: list[BaseException], message: str) -> None:
    """The innermost message of the chain; the name of the error if none has a message."""
    for outer, inner in itertools.pairwise(errors):
        outer.__cause__ = inner
    assert message in connect.cause(errors[0])
