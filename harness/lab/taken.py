"""Sends a kernel of the user from the cache of one host to the cache of another."""

from __future__ import annotations

import tarfile
from pathlib import Path

from harness.errors import InfrastructureError
from harness.host.cache import Cache
from harness.kernels.model import ResolvedKernel

_KIND = "kernels"


def pack(kernel: ResolvedKernel, store: Cache, target: Path) -> None:
    """Write the files of a resolved kernel as a tar archive; equal files give equal bytes. Raises OSError."""

    def missing(_folder: Path) -> None:
        raise InfrastructureError(f"{kernel.name}: no longer in the cache", hint="run again")

    content = store.get(_KIND, kernel.digest, missing)
    with tarfile.open(target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(path for path in content.rglob("*") if path.is_file() and not path.is_symlink()):
            entry = tarfile.TarInfo(path.relative_to(content).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                tar.addfile(entry, file)


def adopt(kernel: ResolvedKernel, archive: Path, store: Cache) -> None:
    """Put a kernel that another host packed into the cache. Raises InfrastructureError."""

    def unpack(folder: Path) -> None:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
        except (OSError, tarfile.TarError) as error:
            raise InfrastructureError(f"{kernel.name}: its files cannot be unpacked: {error}") from error

    store.get(_KIND, kernel.digest, unpack, needs=archive.stat().st_size)
