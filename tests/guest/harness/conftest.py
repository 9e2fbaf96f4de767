"""Real machines for the tests marked `guest`: one kernel, fetched and built once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.vm.domain import MachineSpec

MakeSpec = Callable[[Path], MachineSpec]


@pytest.fixture(scope="session")
def make_spec() -> MakeSpec:
    """Makes the spec of a machine that boots, with its files in the given directory."""
    from harness.images import initramfs, modules_image, root_image
    from harness.kernels import KernelRequest, fetch, resolve

    kernel = fetch(resolve(KernelRequest("6.1", "6.1")))
    start, root, disks = initramfs(kernel), root_image("amd64").path, (modules_image(kernel),)
    return lambda workdir: MachineSpec(kernel.vmlinuz, start, root, workdir, disks)
