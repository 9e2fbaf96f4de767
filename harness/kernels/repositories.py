"""All suites of Debian's archives, each behind its own private apt; what a resolver asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from harness.host import cache
from harness.kernels import mirrors
from harness.kernels.apt import MAX_AGE_S, Apt
from harness.kernels.mirrors import Mirrors

_preferred: list[str] = []  # the main archive that this process was told to use, if it was


def prefer(main: str) -> None:
    """From now on this process finds the main archive at `main`; "" is the host's own again."""
    _preferred[:] = [main] if main else []
    _host_mirrors.cache_clear()


@lru_cache(maxsize=1)
def _host_mirrors() -> Mirrors:
    return mirrors.find(*_preferred)


@dataclass(frozen=True)
class Repositories:
    """Where indexes are kept, which mirrors they come from, and how many seconds old they may be."""

    home: Path = field(default_factory=lambda: cache.default_root() / "apt")
    mirrors: Mirrors = field(default_factory=_host_mirrors)
    max_age_s: float = MAX_AGE_S

    def apt(self, arch: str, *suites: str) -> Apt:
        """The apt of these suites together."""
        return Apt(self.home / arch / "+".join(suites), arch, suites, self.mirrors, self.max_age_s)
