"""A matrix multiplied out: every cell that it names, before anyone selects."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from harness.plan.matrix import Arch, Btf, Cmdline, Exclude, Include, Kernel, Matrix, Suite, Transport


class Cell(BaseModel):
    """One kernel x architecture x variant; `id` is stable and is a file name.

    With any `events` only what these event types need is loaded: a developer's loop has no time for more.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    kernel: Kernel
    arch: Arch = "amd64"
    hookset: str = "auto"  # or a suite's name
    btf: Btf = "kernel"
    transport: Transport = "ringbuf"
    cmdline: Cmdline | None = None
    tests: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    suite: Suite | None = None

    @property
    def machine(self) -> str:
        """Cells that are alike in this share a booted guest."""
        parts = [self.kernel.name, self.arch] + ([self.cmdline.name] if self.cmdline else [])
        return "-".join([*parts, "bcc"] if self.compiles else parts)

    @property
    def compiles(self) -> bool:
        """Whether its guest compiles programs, which takes a compiler and the kernel's headers."""
        return not self.suite and (self.hookset == "bcc" or self.btf == "none")


class Candidate(NamedTuple):
    """A cell, the tags of each entry it comes from, and why the matrix leaves it out ("" if it does not).

    `tests` are the globs of the entry; with none, all tests are meant.
    """

    cell: Cell
    tags: tuple[tuple[str, ...], ...]
    excluded: str
    tests: tuple[str, ...] = ()


def expand(matrix: Matrix) -> Iterator[Candidate]:
    """The product of the axes, then what `include` adds; the same cell may come more than once."""
    cmdlines = (None, *matrix.cmdline)
    variants = list(product(matrix.arch, matrix.columns, matrix.btf, matrix.transport, cmdlines))
    for kernel in matrix.kernels:
        for variant in variants:
            yield _candidate(matrix, _cell(kernel, *variant), kernel.tags)
    for entry in matrix.include:
        yield from _included(matrix, entry)
    for suite in matrix.suites:
        yield from _suite_cells(matrix, suite)


def _suite_cells(matrix: Matrix, suite: Suite) -> Iterator[Candidate]:
    for kernel in matrix.kernels:
        for arch in suite.arch if fits(kernel.name, suite.kernel) else ():
            cell = _cell(kernel, arch, suite.name, "kernel", "ringbuf", suite.cmdline)
            yield _candidate(matrix, cell.model_copy(update={"suite": suite}), kernel.tags, suite.tags)


def _included(matrix: Matrix, entry: Include) -> Iterator[Candidate]:
    axes = list(product(entry.arch, entry.hookset, entry.btf, entry.transport, (entry.cmdline,)))
    for kernel in matrix.kernels:
        if fits(kernel.name, entry.kernel):
            for variant in axes:
                found = _candidate(matrix, _cell(kernel, *variant), kernel.tags, entry.tags)
                yield found._replace(tests=entry.tests)


def _candidate(matrix: Matrix, cell: Cell, *tags: tuple[str, ...]) -> Candidate:
    reasons = (entry.reason for entry in matrix.exclude if _excluded(cell, entry))
    return Candidate(cell, tags, next(reasons, ""))


def _cell(
    kernel: Kernel, arch: Arch, hookset: str, btf: Btf, transport: Transport, cmdline: Cmdline | None
) -> Cell:
    words = [kernel.name]
    words += [arch] if arch != "amd64" else []
    words += [hookset]
    words += [f"btf_{btf}"] if btf != "kernel" else []
    words += [transport] if transport != "ringbuf" else []
    words += [cmdline.name] if cmdline else []
    return Cell(
        id="-".join(words),
        kernel=kernel,
        arch=arch,
        hookset=hookset,
        btf=btf,
        transport=transport,
        cmdline=cmdline,
    )


def _excluded(cell: Cell, entry: Exclude) -> bool:
    axes = (
        (cell.kernel.name, entry.kernel),
        (cell.arch, entry.arch),
        (cell.hookset, entry.hookset),
        (cell.btf, entry.btf),
        (cell.transport, entry.transport),
        (cell.cmdline.name if cell.cmdline else "", entry.cmdline),
    )
    return all(fits(word, globs) for word, globs in axes)


def fits(word: str, globs: tuple[str, ...]) -> bool:
    """Whether any of `globs` fits all of `word`, case and all."""
    return any(fnmatchcase(word, glob) for glob in globs)
