"""What a deliberate fault is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault: in `file`, `old` occurs exactly once and becomes `new`; each of `caught_by` must fail.

    That is tried on `kernel`, unless the caller names another one, with the hooks of `hookset`. `vcpus` is 0
    for as many processors as the matrix gives that kernel. `tags` are those of the kernel in the matrix.
    A test is a scenario; where none can reach the line, it is a unit test: `tests/FILE::NAME`, on this host.
    With words of a command line, each test has a machine of its own: what it does to the kernel lasts.
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]
    kernel: str = "6.1"
    hookset: str = "auto"
    vcpus: int = 0
    tags: tuple[str, ...] = ()
    cmdline: str = ""
