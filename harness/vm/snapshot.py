"""Stores machines that were saved when they were ready, so that a later run restores them and need not boot.

This is sound because the disks of a machine are read-only, so that everything it wrote is in its memory. The
data of one run are on the run disk, which `images/init.c` reads again for each connection. A machine with a
disk of its own is neither saved nor restored: what it wrote is on the disk and not in its memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host import manifest
from harness.host.cache import MIB, Cache, digest, file_digest
from harness.vm import domain
from harness.vm.domain import MachineSpec

KIND = "machines"
BOUND = 2048 * MIB

# The version of the snapshot's format: a new number invalidates all snapshots.
_LAYOUT = "1"
_NEEDS = 256 * MIB


@dataclass(frozen=True)
class Snapshot:
    """A saved machine: its `memory` (see `savefile`) and its `console` until then."""

    memory: Path
    console: Path

    @classmethod
    def within(cls, folder: Path) -> Snapshot:
        """Return the snapshot with its files in that folder, whether they exist yet or not."""
        return cls(folder / "memory.zst", folder / "console.log")


class Snapshots:
    """The saved machines in the cache. `host` is `Hypervisor.identity`: emulator, libvirt and processor."""

    def __init__(self, host: str, store: Cache | None = None) -> None:
        self._host = host
        self._store = store or Cache()

    def find(self, spec: MachineSpec) -> Snapshot | None:
        """Return the verified snapshot of such a machine, or None. Raises InfrastructureError."""
        if spec.state_mib or not self._store.has(KIND, key := self._key(spec)):
            return None
        try:
            return Snapshot.within(self._store.get(KIND, key, _cannot_make))
        except LookupError:
            return None

    def keep(self, spec: MachineSpec, save: Callable[[Snapshot], None]) -> None:
        """Store the snapshot that `save` writes, unless one exists. Raises InfrastructureError."""

        def build(folder: Path) -> None:
            save(Snapshot.within(folder))

        if spec.state_mib:
            return
        self._store.get(KIND, self._key(spec), build, needs=_NEEDS)
        self._store.clean(keep_bytes=BOUND, kind=KIND)

    def drop(self, spec: MachineSpec) -> None:
        """Remove a snapshot that cannot be restored, unless another process uses it."""
        self._store.discard(KIND, self._key(spec))

    def _key(self, spec: MachineSpec) -> str:
        disks = (*([spec.root] if spec.root else []), *spec.disks)
        files = [_identity(path) for path in (spec.kernel, spec.initramfs, *disks)]
        shape = [domain.cmdline(spec), spec.arch, spec.kind, spec.memory_mib, spec.vcpus, spec.icount]
        return digest(_LAYOUT, self._host, domain.template_digest(), json.dumps([files, shape]))


def _cannot_make(_folder: Path) -> None:
    raise LookupError("only a machine that has booted makes a snapshot")


def _identity(path: Path) -> str:
    """Return the digest of a file, from the cache's manifest if it has one. Raises InfrastructureError."""
    try:
        if path.parent.name == "content":
            return manifest.read(path.parent.parent).files[path.name]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return f"sha256 {file_digest(path)}"
    except OSError as error:
        raise InfrastructureError(f"cannot read a file that a machine boots from: {error}") from error
