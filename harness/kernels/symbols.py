"""Finds the package with a kernel's debugging symbols."""

from __future__ import annotations

from harness.errors import InfrastructureError
from harness.host.progress import Progress, silent
from harness.kernels import catalogue
from harness.kernels.repositories import Repositories

MIB = 1 << 20


def advice(
    series: str,
    release: str,
    arch: str,
    *,
    repositories: Repositories | None = None,
    progress: Progress = silent,
) -> str:
    """One line that names the package with vmlinux of a release, or says that no suite has it."""
    name = f"linux-image-{release}-dbg"
    repositories = repositories or Repositories()
    for suite in catalogue.search_order(series):
        try:
            apt = repositories.apt(arch, suite)
            apt.refresh(progress)
            stanzas = apt.show([name])
        except InfrastructureError as error:
            progress(error.message)
            continue
        if stanzas:
            size, version = int(stanzas[0]["size"]) // MIB, stanzas[0]["version"]
            return f"symbols: package {name} {version} in {suite} ({size} MiB): {vmlinux(release)}"
    return f"symbols: no repository has {name}; gdb shows addresses only"


def vmlinux(release: str) -> str:
    """The path at which the package installs vmlinux."""
    return f"/usr/lib/debug/boot/vmlinux-{release}"
