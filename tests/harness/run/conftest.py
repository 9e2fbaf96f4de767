"""What all tests of runs share."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _commands_die_of_a_hangup() -> Iterator[None]:
    """Start commands with SIGHUP at its default, also if pytest itself runs under nohup, which ignores it."""
    # A handler ends with exec, so that the command has the default, and until then it keeps pytest alive.
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)
