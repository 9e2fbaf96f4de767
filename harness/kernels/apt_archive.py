"""The source `apt:` of kernels: any archive of Debian packages, such as Ubuntu's or a vendor's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from debian.debian_support import Version

from harness.errors import ConfigError, HarnessError, InfrastructureError, UnknownKernelError
from harness.host import cache
from harness.host.cache import Cache
from harness.host.programs import ProgramError
from harness.host.progress import Phase, Progress, Step
from harness.kernels import archive, fetcher
from harness.kernels.apt import Apt
from harness.kernels.archive import check, watched
from harness.kernels.index import package as package_of
from harness.kernels.local import fetch, fetch_headers
from harness.kernels.lock import Lock
from harness.kernels.mirrors import Mirrors
from harness.kernels.model import Package, ResolvedKernel
from harness.plan.matrix import Kernel

__all__ = ["check", "fetch", "fetch_headers", "listed", "resolve", "watched"]

# The packages that hold parts of a kernel: linux-modules-6.8.0-31-generic, proxmox-kernel-6.8.12-1-pve. All
# other dependencies (an initramfs generator, firmware) matter only to an installed system.
_PART = re.compile(r"(?:[a-z0-9]+-)+(?:[a-z]+-)*?\d+\.\d+\S*")
_KINDS = ("image", "kernel", "binary", "modules", "base")
_DEPENDENCY = re.compile(r"\s*([a-z0-9][a-z0-9.+-]*)(?::\w+)?\s*(?:\(=\s*([^)\s]+)\s*\))?")
# What apt reports of an archive that the user must not or cannot use; all else is the network.
_REFUSED = re.compile(
    r"NO_PUBKEY|is not signed|public key is not available|EXPKEYSIG|REVKEYSIG|BADSIG|NODATA|signature verif"
    r"|does not have a Release file|no longer has a Release file|404 |isn't valid|Hash Sum mismatch"
    r"|unexpected size|is not valid yet|is expired"
)


def resolve(
    kernel: Kernel, arch: str, *, lock: Lock | None, store: Cache, progress: Progress
) -> ResolvedKernel:
    """The locked or the newest kernel, taken into the cache. Raises HarnessError."""
    packages = archive.locked(kernel, arch, lock) or listed(kernel, arch, progress)

    def download(wanted: tuple[Package, ...], folder: Path) -> None:
        apt = _refreshed(kernel, arch, progress)
        of_archive = ResolvedKernel(kernel.name, "", "", arch, kernel.suite, wanted)
        try:
            fetcher.download(apt, of_archive, folder, progress)
        except ProgramError as error:
            raise _explained(kernel, error, error) from error

    return archive.take(kernel, arch, packages, download, store, progress)


def listed(kernel: Kernel, arch: str, progress: Progress) -> tuple[Package, ...]:
    """The packages of the newest kernel that the archive has now, its image first. Raises HarnessError."""
    progress(Step(Phase.RESOLVE, f"the newest {kernel.package} of {kernel.suite}"))
    apt = _refreshed(kernel, arch, progress)
    prefix = re.split(r"[*?]", kernel.package)[0]
    names = [name for name in apt.names(prefix) if fnmatchcase(name, kernel.package)]
    found = apt.show(names) if names else []
    if not found:
        raise UnknownKernelError(
            f"{kernel.requested}: the archive has no such package for {arch}",
            hint="correct the package, suite or component",
        )
    newest = max(found, key=lambda stanza: (Version(stanza["version"]), int(stanza["size"])))
    packages = tuple(map(package_of, _with_parts(apt, newest)))
    archive.bound(kernel, packages)
    return packages


def _with_parts(apt: Apt, first: Mapping[str, str]) -> list[Mapping[str, str]]:
    """The stanza of a package and those of all parts of the kernel on which it depends."""
    taken = {first["package"]: first}
    queue = [first]
    while queue and len(taken) <= archive.MAX_PACKAGES:
        stanza = queue.pop(0)
        for alternatives in _parts_of(stanza):
            if any(name in taken for name, _version in alternatives):
                continue
            found = _available(apt, alternatives)
            if found is None:
                wanted = " or ".join(" ".join(filter(None, one)) for one in alternatives)
                raise ConfigError(
                    f"{stanza['package']}: depends on {wanted}, which is not in the archive",
                    hint="name another package, or the suite that has all of it",
                )
            taken[found["package"]] = found
            queue.append(found)
    return list(taken.values())


def _parts_of(stanza: Mapping[str, str]) -> list[list[tuple[str, str]]]:
    """The dependencies on parts of the kernel: names and exact versions ("" for any) of the alternatives."""
    relations = f"{stanza.get('pre-depends', '')},{stanza.get('depends', '')}".split(",")
    matches = [[_DEPENDENCY.match(word) for word in relation.split("|")] for relation in relations]
    parts = [[(one[1], one[2] or "") for one in relation if one and _is_part(one[1])] for relation in matches]
    return [part for part in parts if part]


def _is_part(name: str) -> bool:
    return bool(_PART.fullmatch(name)) and any(kind in name.split("-") for kind in _KINDS)


def _available(apt: Apt, alternatives: list[tuple[str, str]]) -> Mapping[str, str] | None:
    for name, version in alternatives:
        stanzas = [one for one in apt.show([name]) if one["package"] == name]
        fitting = [one for one in stanzas if version in ("", one["version"])]
        if fitting:
            return max(fitting, key=lambda stanza: Version(stanza["version"]))
    return None


def _refreshed(kernel: Kernel, arch: str, progress: Progress) -> Apt:
    """The apt of the archive, with its index. Raises ConfigError for an archive that cannot be trusted."""
    trusted = archive.keys(Path(kernel.key))
    uri = kernel.apt.rstrip("/")
    name = cache.digest(uri, kernel.suite, kernel.component, trusted.hex())[:16]
    home = cache.default_root() / "apt" / arch / f"archive-{name}"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    keyring = home / "key.gpg"  # apt cannot read every path
    if not keyring.exists() or keyring.read_bytes() != trusted:
        keyring.write_bytes(trusted)
    apt = Apt(home, arch, (kernel.suite,), Mirrors(uri, uri, keyring), component=kernel.component)
    try:
        apt.refresh(progress)
    except InfrastructureError as error:
        if isinstance(error.__cause__, ProgramError):
            raise _explained(kernel, error, error.__cause__) from error
        raise
    return apt


def _explained(kernel: Kernel, error: InfrastructureError, apt: ProgramError) -> HarnessError:
    """The error with the user's own key and archive in it, of the class that decides about the exit code."""
    refused = _REFUSED.search(apt.stderr)
    if not refused:
        return InfrastructureError(error.message, hint=f"check that this host reaches {kernel.apt}")
    what = f"{kernel.requested}: {error.message}"
    if "Release file" in refused[0] or "404" in refused[0]:
        return ConfigError(what, hint="correct the URI or the suite: URI/dists/SUITE/InRelease must exist")
    if "ash" in refused[0] or "size" in refused[0]:
        return ConfigError(what, hint="use another mirror of the archive, or wait until this one is complete")
    return ConfigError(what, hint=f"{kernel.key} must have the key that signs this archive")
