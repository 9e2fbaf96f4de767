"""Finds the kernels in the package index of a suite, and the packages that an incomplete kernel lacks.

Up to 6.18 one package holds a kernel. From 6.19 `linux-image-RELEASE` is almost empty and depends on
`linux-binary-`, `linux-modules-` and `linux-base-RELEASE`. So a dependency whose name ends in the kernel's
own release is part of the kernel; all others (an initramfs generator, firmware) matter only to an installed
system. A meta package such as `linux-image-6.12-cloud-amd64` is no kernel: it is small and depends on another
release. 6.18 is a whole image that also depends on `linux-base-`; a guest boots without that package, so the
image alone is complete.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from debian.debian_support import Version

from harness.kernels.apt import Apt
from harness.kernels.catalogue import Flavour
from harness.kernels.model import Package

_PARTS = ("image", "binary", "modules", "base")
_MEMBER = re.compile(rf"linux-(?:{'|'.join(_PARTS)})-\d")
_SERIES = re.compile(r"\d+\.\d+")
_META_BYTES = 100_000  # a meta package has 1 to 3 kB, a kernel over 10 MB

Stanza = Mapping[str, str]


@dataclass(frozen=True)
class Candidate:
    """One kernel of an index; it can be fetched only if `missing` is empty."""

    series: str
    release: str
    version: Version
    packages: tuple[Package, ...]
    missing: tuple[str, ...] = ()


def candidates(apt: Apt, flavour: Flavour) -> list[Candidate]:
    """The kernels of a flavour in apt's suites, newest first. Call `Apt.refresh` first."""
    names = [name for name in apt.names("linux-") if _MEMBER.match(name)]
    return parse(apt.show(names), flavour, apt.arch)


def parse(stanzas: Iterable[Stanza], flavour: Flavour, arch: str) -> list[Candidate]:
    """The kernels of a flavour among an index's stanzas, newest first."""
    newest = _newest(stanzas)
    releases = re.compile(rf"linux-image-(\d[^-]*(?:-\d[^-]*)?-{flavour.infix}{arch})")
    matches = (releases.fullmatch(name) for name in newest)
    kernels = (_candidate(match[1], newest) for match in matches if match)
    return sorted(filter(None, kernels), key=lambda kernel: kernel.version, reverse=True)


def _newest(stanzas: Iterable[Stanza]) -> dict[str, Stanza]:
    newest: dict[str, Stanza] = {}
    for stanza in stanzas:
        name = stanza["package"]
        if name not in newest or Version(newest[name]["version"]) < Version(stanza["version"]):
            newest[name] = stanza
    return newest


def _candidate(release: str, index: Mapping[str, Stanza]) -> Candidate | None:
    image = index[f"linux-image-{release}"]
    own = {f"linux-{part}-{release}" for part in _PARTS}
    needed = [name for name in _dependencies(image) if name in own]
    whole = int(image["size"]) > _META_BYTES
    series = _SERIES.match(release)
    if not series or not (needed or whole):
        return None
    return Candidate(
        series[0],
        release,
        Version(image["version"]),
        tuple(package(index[name]) for name in (image["package"], *needed) if name in index),
        tuple(name for name in needed if name not in index and not whole),
    )


def _dependencies(stanza: Stanza) -> list[str]:
    """The names of the packages that a package depends on; of alternatives, the first."""
    relations = f"{stanza.get('pre-depends', '')},{stanza.get('depends', '')}".split(",")
    return sorted({words[0] for words in (relation.split() for relation in relations) if words})


def package(stanza: Stanza) -> Package:
    """The package that a stanza describes."""
    return Package(
        stanza["package"], stanza["version"], stanza["sha256"], int(stanza["size"]), stanza["filename"]
    )
