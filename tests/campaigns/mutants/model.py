"""What a deliberate fault is."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One fault: in `file`, `old` occurs exactly once and becomes `new`; each of `caught_by` must fail.

    That is tried on `kernel`, unless the caller names another one, with the hooks of `hookset`. `vcpus` is 0
    for as many processors as the matrix gives that kernel. `tags` are those of the kernel in the matrix.
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
