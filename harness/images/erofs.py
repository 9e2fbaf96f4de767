"""Makes read-only disks for guests.

A guest finds its disks by the UUID in the superblock, not by their order. The sixteen bytes of the UUID are
text that names the purpose of the disk; `images/early-init.c` searches for the same text.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from harness.host.programs import run

ROOT = uuid.UUID(bytes=b"fim-harness-root")
MODULES = uuid.UUID(bytes=b"fim-harness-mods")


def make(image: Path, tree: Path, role: uuid.UUID, *, compressed: bool, times: bool = False) -> None:
    """Write a tree as one image in which root owns everything. Equal trees make equal bytes.

    All times in the image are 0, unless `times` keeps those of the files. Raises InfrastructureError.
    """
    options = ["-zlz4hc"] if compressed else []
    fixed = [] if times else ["-T0"]
    run(
        ["mkfs.erofs", "--quiet", *fixed, "--all-root", *options, f"-U{role}", image, tree],
        package="erofs-utils",
    )
