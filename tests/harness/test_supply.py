from __future__ import annotations

import shutil
from typing import Any

import pytest

from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import Event
from harness.lab import supplies
from harness.lab.supplies import BACKOFF_S, Preparation
from harness.plan.cells import Cell
from harness.plan.plan import Plan


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


def test_a_missing_compiler_is_said_before_anything_is_fetched(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guests' first program is compiled here: without the compiler a download would be for nothing."""

    def resolve(*_words: Any) -> None:
        raise AssertionError("a repository was asked")

    monkeypatch.setattr(supplies, "resolve_all", resolve)
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    cells = [cell.model_copy(update={"arch": "arm64", "tests": ()}) for cell in plan.cells]
    with pytest.raises(ConfigError, match="aarch64-linux-gnu-gcc was not found") as caught:
        Preparation("tcg", lambda _: None).supplies(plan.model_copy(update={"cells": tuple(cells)}))
    assert caught.value.hint.startswith("apt-get install ")
