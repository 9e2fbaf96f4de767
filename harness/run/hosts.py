"""The host of a run, as results name it."""

from __future__ import annotations

import os

from harness.host import capacity
from harness.results.model import Host
from harness.text import one_line


def name() -> str:
    """Return the network name of this host, in ASCII."""
    return plain(os.uname().nodename)


def plain(word: str) -> str:
    """Return a name of a host as results can hold it."""
    return one_line(word.encode("ascii", "replace").decode())


def this(name: str) -> Host:
    """Return this host under a name."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Host(name=name, cpus=capacity.cpus(), memory_mib=memory >> 20, kernel=os.uname().release)
