"""The bench of the arenas of this folder, which shares the only libvirt of the process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.lab.lab import VmBench
from tests.campaigns.law.arena import MATRIX

if TYPE_CHECKING:
    from harness.vm.connection import Connection


@pytest.fixture(scope="package")
def bench(connection: Connection) -> Iterator[VmBench]:
    """A bench with the kernels of the lock."""
    with contextlib.closing(VmBench(lock=MATRIX.with_name("matrix.lock"), connection=connection)) as made:
        yield made
