"""Remembers which kernels of the user booted often enough for their results to count.

A kernel that boots only sometimes would make the results of its cells depend on luck. So a kernel that did
not come from Debian boots `BOOTS` times, with a command each time, before its first cell. It is remembered by
its digest.
"""

from __future__ import annotations

from pathlib import Path

from harness.host import cache
from harness.host.cache import Cache

BOOTS = 3
_KIND = "accepted"


def known(digest: str, store: Cache) -> bool:
    """Whether the kernel was accepted before on this host."""
    return store.has(_KIND, _key(digest))


def remember(digest: str, store: Cache) -> None:
    """Record that the kernel is accepted."""

    def write(folder: Path) -> None:
        (folder / "boots").write_text(f"{BOOTS}\n")

    store.get(_KIND, _key(digest), write)


def _key(digest: str) -> str:
    return cache.digest(str(BOOTS), digest)
