"""Finds the kernel headers with which bcc compiles: installed ones, or those that the kernel itself holds.

A kernel with CONFIG_IKHEADERS has them as an archive in /sys, or its module kheaders has.
bcc would unpack the archive into /tmp, by a name that another user can take.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tarfile

from agent.errors import KernelError

VARIABLE = "BCC_KERNEL_SOURCE"  # bcc reads it
MODULES = Path("/lib/modules")
ARCHIVE = Path("/sys/kernel/kheaders.tar.xz")
_MODULE = "kheaders"


def installed() -> bool:
    """Whether the headers of this kernel are installed."""
    return (_of_this_kernel() / "build").is_dir()


def held() -> bool:
    """Whether this kernel, or its module, holds its headers."""
    return ARCHIVE.exists() or any(_of_this_kernel().glob(f"kernel/kernel/{_MODULE}.ko*"))


def unpack(folder: Path) -> None:
    """Write the headers that the kernel holds into `folder`. Raises KernelError."""
    # Lazy imports: every start of the agent imports this module, and hardly one unpacks.
    import lzma
    import subprocess
    import tarfile

    if not ARCHIVE.exists():
        subprocess.run(["modprobe", "-q", _MODULE], check=False)  # the archive is missing if it failed
    try:
        with tarfile.open(ARCHIVE, "r:xz") as archive:
            archive.extractall(folder, _plain(archive))  # noqa: S202 - the kernel made the archive
    except (OSError, tarfile.TarError, lzma.LZMAError) as error:
        raise KernelError(f"cannot unpack {ARCHIVE}: {error}") from error


def _plain(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files and folders of the archive; bcc needs neither its owners nor its links."""
    for member in archive:
        if member.isfile() or member.isdir():
            member.uid = member.gid = 0
            yield member


def _of_this_kernel() -> Path:
    return MODULES / os.uname().release
