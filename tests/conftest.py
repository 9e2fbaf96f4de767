"""Fixtures for guest tests of several folders."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from harness.vm.connection import Connection


# A deadline measures the host's load.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")

# A shell ignores SIGINT in its background jobs, and their children inherit that: tests that interrupt a
# run would wait for its end in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    """An embedded libvirt: a process can have only one, so it stays open until the process ends."""
    from harness.vm.connection import Connection
    from harness.vm.ownership import RunDirectory

    with RunDirectory.claim() as directory, Connection.open(directory) as opened:
        yield opened
