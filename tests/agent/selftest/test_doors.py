"""What the scenarios of entry points do where they cannot be played."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.scenarios import doors


@pytest.mark.parametrize("scenario", [doors.doors_compat, doors.doors_mount_compat])
def test_calls_that_the_generator_cannot_make_are_not_said_to_be_absent(
    scenario: Callable[[Bench], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An arm64 kernel may have 32-bit calls; the scenario is skipped because nothing makes them."""
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="aarch64"))
    with pytest.raises(CannotTellError, match="not tested on aarch64: the generator"):
        scenario(cast("Bench", None))
