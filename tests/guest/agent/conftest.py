"""One guest for each kernel, with the agent deployed, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from harness.guest.base import Guest
from tests.guest.agent import machines
from tests.guest.agent.actions import Actions

if TYPE_CHECKING:
    from harness.vm.connection import Connection


@pytest.fixture(scope="package", params=["5.10", "7.3"])
def guest(
    request: pytest.FixtureRequest, connection: Connection, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """A guest of each kernel, booted once, with cgroups mounted and a folder `/w`."""
    with machines.booted(connection, request.param, tmp_path_factory.mktemp(request.param)) as made:
        made.run(["sh", "-c", "mountpoint -q /sys/fs/cgroup || mount -t cgroup2 none /sys/fs/cgroup"])
        yield made


@pytest.fixture(scope="package")
def actions(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> Actions:
    """Runs the functions of `guest_actions.py` in the guest."""
    return Actions.put(guest, tmp_path_factory.mktemp("quick"))
