"""Writes the small disk with a machine's keys: a tar archive, no file system; `images/init.c` reads it.

The keys are on a disk and not in the initramfs, because a machine that is restored from a snapshot can get
another disk, but the snapshot already contains the initramfs.
"""

from __future__ import annotations

import io
import secrets
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from harness.host import private

_SEED = 64

# The size that init.c reads. A restored machine needs a disk of the same size as the saved one, so all
# are equal.
SIZE = 64 * 1024


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write `files`, name to content, readable by this user only. Raises ValueError if they do not fit."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = archive.getvalue()
    if len(data) > SIZE:
        raise ValueError(f"{len(data)} bytes do not fit a run disk of {SIZE}")
    private.write(path, data.ljust(SIZE, b"\0"))


def moment() -> Mapping[str, bytes]:
    """Return what a restored guest needs anew: the time (seconds, nanoseconds) and a secret random seed."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return {"clock": f"{seconds} {nanoseconds}\n".encode(), "seed": secrets.token_bytes(_SEED)}
