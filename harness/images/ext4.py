"""Makes the disk on which a guest keeps what it writes, if that has to survive a reboot."""

from __future__ import annotations

import uuid
from pathlib import Path

from harness.host.programs import run

# As in `erofs`: images/early-init.c searches for the same text.
STATE = uuid.UUID(bytes=b"fim-harness-disk")


def make(image: Path, mib: int) -> None:
    """Write an empty file system of this size, of which the host stores only what the guest writes.

    Raises InfrastructureError.
    """
    options = ["-q", "-t", "ext4", f"-U{STATE}", "-Elazy_itable_init=0,nodiscard", "-m0"]
    run(["mke2fs", *options, image, f"{mib}m"], package="e2fsprogs")
