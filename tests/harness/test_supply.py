from __future__ import annotations

from typing import Any

import pytest

from harness.errors import InfrastructureError
from harness.host.progress import Event
from harness.lab import supplies
from harness.lab.supplies import BACKOFF_S, Preparation
from harness.plan.cells import Cell


@pytest.mark.parametrize(("failures", "missing"), [(0, {}), (2, {}), (3, {"m": "404"})])
def test_a_mirror_that_stumbles_is_asked_again(
    cell: Cell, monkeypatch: pytest.MonkeyPatch, failures: int, missing: dict[str, str]
) -> None:
    left = [InfrastructureError("404")] * failures
    said: list[Event] = []
    paused: list[float] = []

    def stumble(*_words: Any) -> None:
        if left:
            raise left.pop()

    monkeypatch.setattr(supplies.Preparation, "_supply", stumble)
    preparation = Preparation("tcg", said.append)
    preparation.pause = paused.append
    preparation._try("m", cell, None)  # type: ignore[arg-type]
    assert preparation.missing == missing
    assert paused == list(BACKOFF_S[:failures])
    assert len(said) == failures
