"""Machines that were saved once they were ready, so that the next run restores instead of boots.

Sound because of what a machine is made of: its disks are read-only and all it ever wrote lies in its memory.
What is a run's own comes on the run disk, which `images/init.c` reads anew for each connection.
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

# How a snapshot is written: a new number makes all of them again.
_LAYOUT = "1"
_NEEDS = 256 * MIB


@dataclass(frozen=True)
class Snapshot:
    """A saved machine: its `memory` (see `savefile`), and what its `console` had shown until then."""

    memory: Path
    console: Path

    @classmethod
    def within(cls, folder: Path) -> Snapshot:
        """The snapshot whose files lie, or will lie, in a folder."""
        return cls(folder / "memory.zst", folder / "console.log")


class Snapshots:
    """The cache's machines. `host` says what else must be the same: emulator, its library, processor."""

    def __init__(self, host: str, store: Cache | None = None) -> None:
        self._host = host
        self._store = store or Cache()

    def find(self, spec: MachineSpec) -> Snapshot | None:
        """The snapshot of such a machine, verified; None if there is none. Raises InfrastructureError."""
        if not self._store.has(KIND, key := self._key(spec)):
            return None
        try:
            return Snapshot.within(self._store.get(KIND, key, _cannot_make))
        except LookupError:
            return None

    def keep(self, spec: MachineSpec, save: Callable[[Snapshot], None]) -> None:
        """Keeps what `save` writes, unless there is one already. Raises InfrastructureError."""

        def build(folder: Path) -> None:
            save(Snapshot.within(folder))

        self._store.get(KIND, self._key(spec), build, needs=_NEEDS)
        self._store.clean(keep_bytes=BOUND, kind=KIND)

    def drop(self, spec: MachineSpec) -> None:
        """Forgets a snapshot that turned out to be none, unless another process uses it."""
        self._store.discard(KIND, self._key(spec))

    def _key(self, spec: MachineSpec) -> str:
        files = [_identity(path) for path in (spec.kernel, spec.initramfs, spec.root, *spec.disks)]
        shape = [domain.cmdline(spec), spec.arch, spec.kind, spec.memory_mib, spec.vcpus]
        return digest(_LAYOUT, self._host, domain.template_digest(), json.dumps([files, shape]))


def _cannot_make(_folder: Path) -> None:
    raise LookupError("only a machine that has booted makes a snapshot")


def _identity(path: Path) -> str:
    """What a file holds: the cache's own word for it, else its digest. Raises InfrastructureError."""
    try:
        if path.parent.name == "content":
            return manifest.read(path.parent.parent).files[path.name]
    except (OSError, ValueError, KeyError):
        pass
    try:
        return f"sha256 {file_digest(path)}"
    except OSError as error:
        raise InfrastructureError(f"cannot read what a machine boots from: {error}") from error
