"""A run on a cluster of processes of this host, with fake machines that follow a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="`make setup-cluster` installs it, and `make unit` calls that")

from tests.harness.cluster.place import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder with keys and a matrix, where nothing of the test runs any more afterwards."""
    with Place(tmp_path) as made:
        yield made
