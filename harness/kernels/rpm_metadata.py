"""Reads the metadata of an rpm repository: repomd.xml, and the packages of a kernel in primary.xml.

Both were verified before they are read: repomd.xml by its signature, primary.xml by the digest there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import rpm_rs

from harness.kernels.model import Package

_REPO = "{http://linux.duke.edu/metadata/repo}"
_COMMON = "{http://linux.duke.edu/metadata/common}"
_RPM = "{http://linux.duke.edu/metadata/rpm}"
_PREFIX = "kernel"  # of the names by which packages of a kernel require each other
_PATH = re.compile(r"(?![/.-])(?!.*\.\.)[A-Za-z0-9.+~%:_^/-]{1,512}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Reader(Protocol):
    """A file of bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""


@dataclass(frozen=True)
class File:
    """A file of a repository: its path there, its SHA-256, and its size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Capability:
    """What a package provides or requires; `version` is "" for any, `flags` are EQ, GE and so on."""

    name: str
    flags: str = ""
    version: str = ""

    def satisfies(self, wanted: Capability) -> bool:
        """Whether a package that provides this meets a requirement."""
        return self.name == wanted.name and (wanted.flags != "EQ" or wanted.version == self.version)


@dataclass(frozen=True)
class Candidate:
    """A package of the repository with the capabilities that concern kernels."""

    package: Package
    evr: rpm_rs.Evr
    provides: tuple[Capability, ...]
    requires: tuple[Capability, ...]


def primary(repomd: bytes) -> File:
    """The list of packages that repomd.xml names. Raises ValueError."""
    try:
        root = ElementTree.fromstring(repomd)  # noqa: S314  # signed with a key of the user
        data = root.find(f"{_REPO}data[@type='primary']")
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    if data is None:
        raise ValueError("it names no list of packages (primary)")
    location, checksum, size = (data.find(_REPO + name) for name in ("location", "checksum", "size"))
    return _file(location, checksum, "" if size is None else size.text or "")


def candidates(plain: Reader, arch: str) -> Iterator[Candidate]:
    """The packages for `arch` that provide what kernels require. Raises ValueError."""
    try:
        for _event, element in ElementTree.iterparse(plain):  # noqa: S314  # its digest is signed
            if element.tag == f"{_COMMON}package":
                if element.findtext(f"{_COMMON}arch") in (arch, "noarch"):
                    yield from _candidate(element)
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error


def _candidate(element: Element) -> Iterator[Candidate]:
    provides = tuple(_capabilities(element, "provides"))
    name, version = element.findtext(f"{_COMMON}name") or "", element.find(f"{_COMMON}version")
    if version is None or not (provides or name.startswith(_PREFIX)):
        return
    size = element.find(f"{_COMMON}size")
    location, checksum = (element.find(_COMMON + tag) for tag in ("location", "checksum"))
    file = _file(location, checksum, "" if size is None else size.get("package", ""))
    evr = rpm_rs.Evr.parse(_evr(version))
    package = Package(name, str(evr), file.sha256, file.size, file.path)
    yield Candidate(package, evr, provides, tuple(_capabilities(element, "requires")))


def _capabilities(element: Element, kind: str) -> Iterator[Capability]:
    for entry in element.iterfind(f"{_COMMON}format/{_RPM}{kind}/{_RPM}entry"):
        name = entry.get("name", "")
        if name.startswith(_PREFIX):
            yield Capability(name, entry.get("flags", ""), _evr(entry) if entry.get("ver") else "")


def _evr(element: Element) -> str:
    """EPOCH:VERSION-RELEASE without what is absent."""
    epoch, release = element.get("epoch") or "0", element.get("rel")
    return f"{f'{epoch}:' if epoch != '0' else ''}{element.get('ver', '')}{f'-{release}' if release else ''}"


def _file(location: Element | None, checksum: Element | None, size: str) -> File:
    path = "" if location is None else location.get("href", "")
    digest = "" if checksum is None or checksum.get("type") != "sha256" else (checksum.text or "").strip()
    if not _PATH.fullmatch(path) or not _SHA256.fullmatch(digest) or not size.isdecimal():
        raise ValueError(f"an entry without a path, a SHA-256 or a size: {path[:80]!r}")
    return File(path, digest, int(size))
