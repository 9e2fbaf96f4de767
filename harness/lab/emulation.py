"""Checks that this host has the programs for guests of every architecture of a plan."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from harness.errors import ConfigError
from harness.host.canary import host_arch
from harness.kernels import catalogue


def missing(arch: str) -> dict[str, str]:
    """Return the programs for guests of `arch` that this host lacks, each with its Debian packages.

    Raises ConfigError for an unknown architecture.
    """
    found = catalogue.architecture(arch)
    needed = {found.emulator: found.emulator_package, found.compiler: found.compiler_package}
    return {program: packages for program, packages in needed.items() if not shutil.which(program)}


def check_programs(arches: Iterable[str]) -> None:
    """Raise ConfigError with the command that installs the missing programs for these architectures."""
    lacking = {arch: programs for arch in sorted({*arches}) if (programs := missing(arch))}
    if lacking:
        lines = (f"{arch} guests need {' and '.join(names)}: not found" for arch, names in lacking.items())
        packages = (words for programs in lacking.values() for words in programs.values())
        raise ConfigError("\n".join(lines), hint=f"apt-get install {' '.join(packages)}")


def foreign() -> tuple[str, ...]:
    """Return the architectures of guests that this host has to emulate."""
    return tuple(arch for arch in catalogue.ARCHITECTURES if arch != host_arch())


def check_foreign(arches: Iterable[str]) -> None:
    """Do `check_programs` for the architectures that are not the host's own."""
    check_programs(arch for arch in arches if arch != host_arch())
