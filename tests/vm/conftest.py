"""Real machines for the tests marked `guest`: one kernel, fetched and built once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.vm.domain import MachineSpec

if TYPE_CHECKING:
    from harness.vm.connection import Connection

MakeSpec = Callable[[Path], MachineSpec]


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """Makes the spec of a machine that boots, with its files in the given directory."""
    from harness.images import initramfs, modules_image, root_image
    from harness.kernels import KernelRequest, fetch, resolve

    kernel = fetch(resolve(KernelRequest("6.1", "6.1")))
    start, root, disks = initramfs(kernel), root_image("amd64").path, (modules_image(kernel),)
    return lambda workdir: MachineSpec(kernel.vmlinuz, start, root, workdir, disks)


@pytest.fixture(scope="session")
def connection() -> Iterator[Connection]:
    """An embedded libvirt, which one process has one of."""
    from harness.vm.connection import Connection
    from harness.vm.ownership import RunDirectory

    with RunDirectory.claim() as directory, Connection.open(directory) as opened:
        yield opened
