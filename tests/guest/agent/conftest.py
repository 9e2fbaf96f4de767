"""One machine a kernel, with the agent deployed, for all tests of this folder that ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.guest.base import Guest
from tests.guest.agent import machines
from tests.guest.agent.deeds import Deeds

if TYPE_CHECKING:
    from harness.vm.connection import Connection


@pytest.fixture(scope="package", params=["5.10", "7.3"])
def guest(
    request: pytest.FixtureRequest, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """A guest of each kernel, booted once, with cgroups mounted and `/w` to play in."""
    with machines.booted(connection, request.param, tmp_path_factory.mktemp(request.param)) as made:
        made.run(["sh", "-c", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup"])
        yield made


@pytest.fixture(scope="package")
def deeds(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Deeds:
    """What can be done in the guest, as functions of `guest_deeds.py`."""
    return Deeds.put(guest, tmp_path_factory.mktemp("quick"))
