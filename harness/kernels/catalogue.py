"""Where kernels live, as data: the only place that names suites, flavours and architectures.

A series need not be listed to be found: the table says where to look first, and after that every suite is
searched. So a series that appears in a backports suite tomorrow works without a change here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import ConfigError

_T = TypeVar("_T")


@dataclass(frozen=True)
class Flavour:
    """How a package's name tells a flavour: `linux-image-<version>-<infix><arch>`."""

    name: str
    infix: str


@dataclass(frozen=True)
class Architecture:
    """A Debian architecture, and the compiler for it that Debian and Ubuntu have under this name."""

    name: str
    compiler: str
    compiler_package: str


FLAVOURS = {
    flavour.name: flavour
    for flavour in (Flavour("cloud", "cloud-"), Flavour("generic", ""), Flavour("rt", "rt-"))
}

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture("amd64", "x86_64-linux-gnu-gcc", "gcc, libc6-dev"),
        Architecture("arm64", "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu, libc6-dev-arm64-cross"),
    )
}

# Every suite that may hold a kernel, those with a small index (under 1 MB) first: that is the order of
# the search.
SUITES = (
    "bookworm-security",
    "bookworm-backports",
    "trixie-security",
    "trixie-backports",
    "bullseye-security",
    "experimental",
    "bookworm",
    "trixie",
    "forky",
    "sid",
)

# Where to look first; the first suite that has a complete kernel of the series is taken.
HOMES = {
    "5.10": ("bullseye-security",),
    "6.1": ("bookworm-security", "bookworm"),
    "6.12": ("bookworm-security", "bookworm-backports", "trixie-security", "trixie"),
    "6.16": ("trixie-backports",),
    "6.17": ("trixie-backports",),
    "6.18": ("trixie-backports",),
    "6.19": ("trixie-backports",),
    "7.0": ("trixie-backports",),
    "7.1": ("trixie-backports",),
    "7.2": ("trixie-backports", "forky", "sid"),
    "7.3": ("trixie-backports", "experimental"),
}

# The guests' userland is the same for all kernels.
USERLAND = ("bookworm", "bookworm-updates", "bookworm-security")


def search_order(series: str) -> tuple[str, ...]:
    """All suites, those first where this series is known to live."""
    homes = HOMES.get(series, ())
    return (*homes, *(suite for suite in SUITES if suite not in homes))


def flavour(name: str) -> Flavour:
    """The flavour of that name; raises ConfigError."""
    return _known("flavour", name, FLAVOURS)


def architecture(name: str) -> Architecture:
    """The architecture of that name; raises ConfigError."""
    return _known("architecture", name, ARCHITECTURES)


def choices(word: str, known: Iterable[str]) -> str:
    """A hint: what a person who wrote `word` may have meant, closest first, and what there is."""
    names = list(known)
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    there = f"there is {', '.join(names)}" if names else "there is none"
    return f"did you mean {' or '.join(close)}? {there}" if close else there


def _known(what: str, name: str, table: Mapping[str, _T]) -> _T:
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}", hint=choices(name, table))
    return table[name]
