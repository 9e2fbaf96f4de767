"""The suites, flavours and architectures of Debian's kernels, as data.

A series need not be listed: `HOMES` only says which suites to search first, then all others are searched. So
a new series in a backports suite works without a change here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from harness.errors import ConfigError
from harness.text import did_you_mean

_T = TypeVar("_T")


@dataclass(frozen=True)
class Flavour:
    """A flavour, which package names contain as `linux-image-<version>-<infix><arch>`."""

    name: str
    infix: str


@dataclass(frozen=True)
class Architecture:
    """A Debian architecture; its compiler and emulator, and their packages on Debian and Ubuntu."""

    name: str
    compiler: str
    compiler_package: str
    emulator: str
    emulator_package: str


FLAVOURS = {
    flavour.name: flavour
    for flavour in (Flavour("cloud", "cloud-"), Flavour("generic", ""), Flavour("rt", "rt-"))
}

ARCHITECTURES = {
    architecture.name: architecture
    for architecture in (
        Architecture(
            "amd64", "x86_64-linux-gnu-gcc", "gcc libc6-dev", "qemu-system-x86_64", "qemu-system-x86"
        ),
        Architecture(
            "arm64",
            "aarch64-linux-gnu-gcc",
            "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
            "qemu-system-aarch64",
            "qemu-system-arm",
        ),
    )
}

# Every suite that may hold a kernel, in the order of the search: suites with a small index (under 1 MB)
# first.
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

# The suites to search first; the first suite with a complete kernel of the series is used.
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

# The guest's userland is the same for all kernels.
USERLAND = ("bookworm", "bookworm-updates", "bookworm-security")

# Roots in which packages are installed and systemd is PID 1, by the name that a matrix uses.
INSTALLED = {
    "debian-12": USERLAND,
    "debian-13": ("trixie", "trixie-updates", "trixie-security"),
}


def search_order(series: str) -> tuple[str, ...]:
    """All suites, starting with those in `HOMES` for this series."""
    homes = HOMES.get(series, ())
    return (*homes, *(suite for suite in SUITES if suite not in homes))


def flavour(name: str) -> Flavour:
    """The flavour of that name; raises ConfigError."""
    return _known("flavour", name, FLAVOURS)


def architecture(name: str) -> Architecture:
    """The architecture of that name; raises ConfigError."""
    return _known("architecture", name, ARCHITECTURES)


def choices(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped `word`: the names that are close to it, closest first, and all known names."""
    names = list(known)
    return f"{did_you_mean(word, names, count=3)} available: {', '.join(names) or 'none'}".lstrip()


def _known(what: str, name: str, table: Mapping[str, _T]) -> _T:
    if name not in table:
        raise ConfigError(f"unknown {what} {name!r}", hint=choices(name, table))
    return table[name]
