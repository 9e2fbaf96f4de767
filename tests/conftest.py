"""What tests of several folders share, where they are marked `guest`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from harness.vm.connection import Connection


# A deadline measures the host's load.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    """An embedded libvirt, which one process has one of: it does not end before the process does."""
    from harness.vm.connection import Connection
    from harness.vm.ownership import RunDirectory

    with RunDirectory.claim() as directory, Connection.open(directory) as opened:
        yield opened
