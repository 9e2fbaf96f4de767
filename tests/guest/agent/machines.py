"""Guests for these tests: any kernel, more memory, other disks."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.guest.base import Guest
from harness.vm.domain import MachineSpec

if TYPE_CHECKING:
    from harness.vm.connection import Connection

BOOT_S = 180


@contextlib.contextmanager
def booted(
    connection: Connection,
    series: str,
    workdir: Path,
    *,
    memory_mib: int = 512,
    disks: tuple[Path, ...] = (),
) -> Iterator[Guest]:
    """Boot a guest of this kernel, with the agent deployed. Raises HarnessError."""
    from harness.guest.deploy import deploy
    from harness.lab.supplies import bundle
    from harness.vm.machine import Machine

    spec = _spec(series, workdir, memory_mib, disks)
    with Machine(spec, connection) as machine:
        machine.wait_ready(BOOT_S)
        assert machine.guest
        deploy(machine.guest, bundle())
        yield machine.guest


@functools.cache
def _spec(series: str, workdir: Path, memory_mib: int, disks: tuple[Path, ...]) -> MachineSpec:
    from harness.images import initramfs, modules_image, root_image
    from harness.kernels import KernelRequest, fetch, resolve

    kernel = fetch(resolve(KernelRequest(series, series)))
    return MachineSpec(
        kernel.vmlinuz,
        initramfs(kernel),
        root_image("amd64").path,
        workdir,
        (modules_image(kernel), *disks),
        memory_mib=memory_mib,
    )
