"""Read-only disks for guests.

A guest knows its disks by the UUID in their superblock and not by their order: the sixteen bytes spell what
the disk is for. `images/early-init.c` looks for the same words.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from harness.host.programs import run

ROOT = uuid.UUID(bytes=b"fim-harness-root")
MODULES = uuid.UUID(bytes=b"fim-harness-mods")


def make(image: Path, tree: Path, role: uuid.UUID, *, compressed: bool) -> None:
    """Writes a tree as one image: the same tree makes the same bytes; everything belongs to root.

    Raises InfrastructureError.
    """
    # All times are 0, so whatever compares times (Python's compiled files) must not.
    options = ["-zlz4hc"] if compressed else []
    run(
        ["mkfs.erofs", "--quiet", "-T0", "--all-root", *options, f"-U{role}", image, tree],
        package="erofs-utils",
    )
