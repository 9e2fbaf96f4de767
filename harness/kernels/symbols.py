"""Which package has a kernel's debugging symbols, as a repository's index says."""

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
    """A line that says where vmlinux of a release is to be had, or that it is not. Raises nothing."""
    name = f"linux-image-{release}-dbg"
    repositories = repositories or Repositories()
    for suite in catalogue.search_order(series):
        try:
            apt = repositories.apt(arch, suite)
            apt.refresh(progress)
            found = apt.show([name])
        except InfrastructureError as error:
            progress(error.message)
            continue
        if found:
            size = int(found[0]["size"]) // MIB
            return (
                f"symbols: package {name} {found[0]['version']} in {suite} ({size} MiB): {vmlinux(release)}"
            )
    return f"symbols: no repository has {name}; gdb shows addresses only"


def vmlinux(release: str) -> str:
    """Where the package puts it."""
    return f"/usr/lib/debug/boot/vmlinux-{release}"
