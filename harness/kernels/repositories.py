"""Gives access to the suites of Debian's archives, each through its own private apt."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from harness.host import cache
from harness.kernels import mirrors
from harness.kernels.apt import MAX_AGE_S, Apt
from harness.kernels.mirrors import Mirrors

_preferred: list[str] = []  # the URI of the main archive that the user named, if any


def prefer(main: str) -> None:
    """Use `main` as the URI of the main archive in this process; "" means the host's own."""
    _preferred[:] = [main] if main else []
    _host_mirrors.cache_clear()


@lru_cache(maxsize=1)
def _host_mirrors() -> Mirrors:
    return mirrors.find(*_preferred)


@dataclass(frozen=True)
class Repositories:
    """The folder of the indexes, the mirrors that they come from, and their maximal age in seconds."""

    home: Path = field(default_factory=lambda: cache.default_root() / "apt")
    mirrors: Mirrors = field(default_factory=_host_mirrors)
    max_age_s: float = MAX_AGE_S

    def apt(self, arch: str, *suites: str) -> Apt:
        """The apt that has these suites as its sources."""
        return Apt(self.home / arch / "+".join(suites), arch, suites, self.mirrors, self.max_age_s)
