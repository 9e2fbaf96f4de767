"""Expands a matrix into all of its cells, before any selection."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import product
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from harness.plan.matrix import (
    Arch,
    Btf,
    Cmdline,
    Exclude,
    Include,
    Kernel,
    Matrix,
    Suite,
    Sysctl,
    Transport,
    World,
)
from harness.plan.yaml import Place

# The names of cells are folders, and names of tests are printed. A plan.json from another host may be
# hostile.
PlainName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,254}$")]


class Cell(BaseModel):
    """One kernel x architecture x variant, the unit of reporting.

    `key` identifies the cell; `id` is a stable name derived from it that is also a file name. If `events` is
    not empty, the agent loads only the hooks of these event types, which makes a developer's loop shorter.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: PlainName
    kernel: Kernel
    arch: Arch = "amd64"
    hookset: str = "auto"  # or the name of a suite
    btf: Btf = "kernel"
    transport: Transport = "ringbuf"
    cmdline: Cmdline | None = None
    sysctl: Sysctl | None = None
    world: World = ""
    tests: tuple[PlainName, ...] = ()
    events: tuple[str, ...] = ()
    suite: Suite | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """The properties that identify the cell."""
        variant = (self.hookset, self.btf, self.transport, self.cmdline, self.sysctl, self.world, self.suite)
        return (self.kernel, self.arch, *variant)

    @property
    def machine_key(self) -> tuple[object, ...]:
        """The properties that identify the cell's machine; cells with equal ones share a booted guest."""
        return (self.kernel, self.arch, self.cmdline, self.sysctl, self.compiles, self.root)

    @property
    def machine(self) -> str:
        """The name derived from `machine_key`."""
        parts = [self.kernel.name, self.arch, *(one.name for one in (self.cmdline, self.sysctl) if one)]
        parts += ["bcc"] if self.compiles else []
        return "-".join([*parts, self.root] if self.root else parts)

    @property
    def root(self) -> str:
        """The installed Debian that the machine boots, "" for the harness's own root."""
        return self.suite.root if self.suite else ""

    @property
    def compiles(self) -> bool:
        """Whether BPF programs are compiled in the guest, which needs a compiler and the kernel's headers."""
        return not self.suite and (self.hookset == "bcc" or self.btf == "none")

    @property
    def kind(self) -> str:
        """The type of the programs that the cell's hook set consists of: `bcc` compiles kprobes."""
        return "kprobe" if self.hookset == "bcc" else self.hookset.replace("-", "_")


class Candidate(NamedTuple):
    """A cell before selection.

    `tags` has the tags of each entry that the cell comes from; `excluded` is the reason of the matrix to
    leave the cell out, or "". `place` is the entry that names the cell; `tests` are its globs, () for all
    tests.
    """

    cell: Cell
    tags: tuple[tuple[str, ...], ...]
    excluded: str
    place: Place
    tests: tuple[str, ...] = ()


def expand(matrix: Matrix) -> Iterator[Candidate]:
    """The product of the axes, then the cells of `include` and `suites`. A cell may occur more than once."""
    settings = ((None, *matrix.cmdline), (None, *matrix.sysctl))
    variants = list(product(matrix.arch, matrix.columns, matrix.btf, matrix.transport, *settings))
    for index, kernel in enumerate(matrix.kernels):
        for variant in variants:
            candidate = _candidate(matrix, _cell(kernel, *variant), ("kernels", index), kernel.tags)
            yield candidate._replace(tests=kernel.tests)
    for index, entry in enumerate(matrix.include):
        yield from _included(matrix, entry, ("include", index))
    for index, suite in enumerate(matrix.suites):
        yield from _suite_cells(matrix, suite, ("suites", index))


def _suite_cells(matrix: Matrix, suite: Suite, place: Place) -> Iterator[Candidate]:
    for kernel in matrix.kernels:
        for arch in suite.arch if fits(kernel.name, suite.kernel) else ():
            cell = _cell(kernel, arch, suite.name, "kernel", "ringbuf", suite.cmdline, suite.sysctl)
            yield _candidate(matrix, cell.model_copy(update={"suite": suite}), place, kernel.tags, suite.tags)


def _included(matrix: Matrix, entry: Include, place: Place) -> Iterator[Candidate]:
    settings = ((entry.cmdline,), (entry.sysctl,))
    axes = list(product(entry.arch, entry.hookset, entry.btf, entry.transport, *settings, entry.world))
    for kernel in matrix.kernels:
        if fits(kernel.name, entry.kernel):
            for variant in axes:
                candidate = _candidate(matrix, _cell(kernel, *variant), place, kernel.tags, entry.tags)
                yield candidate._replace(tests=entry.tests)


def _candidate(matrix: Matrix, cell: Cell, place: Place, *tags: tuple[str, ...]) -> Candidate:
    reasons = (entry.reason for entry in matrix.exclude if _excluded(cell, entry))
    return Candidate(cell, tags, next(reasons, ""), place)


def _cell(
    kernel: Kernel,
    arch: Arch,
    hookset: str,
    btf: Btf,
    transport: Transport,
    cmdline: Cmdline | None,
    sysctl: Sysctl | None,
    world: World = "",
) -> Cell:
    words = [kernel.name]
    words += [arch] if arch != "amd64" else []
    words += [hookset]
    words += [f"btf_{btf}"] if btf != "kernel" else []
    words += [transport] if transport != "ringbuf" else []
    words += [one.name for one in (cmdline, sysctl) if one]
    words += [world] if world else []
    return Cell(
        id="-".join(words),
        kernel=kernel,
        arch=arch,
        hookset=hookset,
        btf=btf,
        transport=transport,
        cmdline=cmdline,
        sysctl=sysctl,
        world=world,
    )


def _excluded(cell: Cell, entry: Exclude) -> bool:
    axes = (
        (cell.kernel.name, entry.kernel),
        (cell.arch, entry.arch),
        (cell.hookset, entry.hookset),
        (cell.btf, entry.btf),
        (cell.transport, entry.transport),
        (cell.cmdline.name if cell.cmdline else "", entry.cmdline),
        (cell.sysctl.name if cell.sysctl else "", entry.sysctl),
    )
    return all(fits(word, globs) for word, globs in axes)


def fits(word: str, globs: tuple[str, ...]) -> bool:
    """Whether any of `globs` matches the whole `word`; case matters."""
    return any(fnmatchcase(word, glob) for glob in globs)
