"""The small disk that brings a machine's keys: a tar archive and no file system, read by `images/init.c`.

A disk rather than something in the initramfs, because a machine that is restored from a snapshot can be given
another disk but not another past.
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

# As much as init.c reads. A snapshot's disk must be as large as the next, so all are of one size.
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
    """What a guest that was saved cannot know: the time (seconds, nanoseconds) and what nobody can guess."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return {"clock": f"{seconds} {nanoseconds}\n".encode(), "seed": secrets.token_bytes(_SEED)}
