"""Reads matrix.yaml and checks it; every mistake is reported in one line with file name and line number.

`matrix` checks the shape of each entry. This module compares the entries with each other: duplicate names,
globs that match nothing, and different cells or machines with equal printed names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from agent.selftest import catalogue
from harness.errors import ConfigError
from harness.plan import yaml
from harness.plan.cells import Candidate, Cell, expand, fits
from harness.plan.matrix import (
    Arch,
    Btf,
    Cmdline,
    Hookset,
    Matrix,
    Suite,
    Sysctl,
    Transport,
    nearest,
    validate,
)
from harness.plan.yaml import Place

MAX_CELLS = 50_000  # of a matrix; a few lines could ask for more than memory holds


_SETTINGS = ("cmdline", "sysctl")  # the axes whose values have a name and a content


class Mistake(NamedTuple):
    """A problem at one place of the file; `first` is the place that it conflicts with, if any."""

    place: Place
    problem: str
    first: Place | None = None


def load(path: Path) -> Matrix:
    """Read matrix.yaml with absolute paths of kernels. Raises ConfigError with every mistake, one a line."""
    if not path.exists():
        raise ConfigError(f"{path}: no such file", hint="name the matrix with --matrix FILE")
    matrix = check(yaml.read(path))
    kernels = tuple(kernel.below(path.absolute().parent) for kernel in matrix.kernels)
    return matrix.model_copy(update={"kernels": kernels})


def check(document: yaml.Document) -> Matrix:
    """Make a Matrix from a parsed file; raises ConfigError with every mistake, one a line."""
    matrix = validate(Matrix, document)
    lines = [_line(document, mistake) for mistake in mistakes(matrix)]
    if lines:
        raise ConfigError("\n".join(dict.fromkeys(lines)))
    return matrix


def mistakes(matrix: Matrix) -> list[Mistake]:
    """The entries of `matrix` that contradict each other or name something that does not exist."""
    of_entries = [
        *_duplicates("kernel", "kernels", [kernel.name for kernel in matrix.kernels]),
        *_duplicates("cmdline", "cmdline", [cmdline.name for cmdline in matrix.cmdline]),
        *_duplicates("sysctl", "sysctl", [sysctl.name for sysctl in matrix.sysctl]),
        *_of_suites(matrix),
        *_unknown_names(matrix),
        *_settings(matrix),
    ]
    return of_entries or _of_cells(matrix)


def _of_cells(matrix: Matrix) -> list[Mistake]:
    candidates = list(itertools.islice(expand(matrix), MAX_CELLS + 1))
    if len(candidates) > MAX_CELLS:
        return [Mistake(candidates[-1].place, f"more than {MAX_CELLS:,} cells")]
    return list(_same_names(candidates))


def _line(document: yaml.Document, mistake: Mistake) -> str:
    first = f" (first in line {document.line(mistake.first)})" if mistake.first else ""
    return f"{document.name}:{document.line(mistake.place)}: {mistake.problem}{first}"


def _duplicates(what: str, key: str, names: list[str]) -> Iterator[Mistake]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Mistake((key, index), f"duplicate {what} {name!r}", (key, names.index(name)))


def _of_suites(matrix: Matrix) -> Iterator[Mistake]:
    for index, suite in enumerate(matrix.suites):
        yield from (Mistake(("suites", index), problem) for problem in _of_suite(suite, matrix))


def _of_suite(suite: Suite, matrix: Matrix) -> Iterator[str]:
    taken = [*get_args(Hookset), *(other.name for other in matrix.suites if other is not suite)]
    if suite.name in taken:
        yield f"suite {suite.name!r}: another suite or a hook set has this name; choose another"
    names = [Path(name).name for name in suite.files]
    for name in suite.files:
        # A matrix may come from a hostile pull request, and these files are copied out of this host.
        if Path(name).is_absolute() or ".." in Path(name).parts:
            yield f"suite {suite.name!r}: {name}: must be below the folder of the matrix"
        if names.count(Path(name).name) > 1:
            yield f"suite {suite.name!r}: two files are named {Path(name).name}"


def _unknown_names(matrix: Matrix) -> Iterator[Mistake]:
    """Globs that match nothing: a misspelt one would silently include or exclude nothing."""
    kernels = [kernel.name for kernel in matrix.kernels]
    hooksets = [*get_args(Hookset), *(suite.name for suite in matrix.suites)]
    known = {
        "kernel": kernels,
        "arch": list(get_args(Arch)),
        "hookset": hooksets,
        "btf": list(get_args(Btf)),
        "transport": list(get_args(Transport)),
        **{axis: list(dict.fromkeys(one.name for _, one in _all(matrix, axis))) for axis in _SETTINGS},
    }
    for index, entry in enumerate(matrix.include):
        yield from _unmatched(("include", index, "kernel"), entry.kernel, kernels)
        for glob in catalogue.unknown(entry.tests):
            names = [scenario.name for scenario in catalogue.CATALOGUE]
            near = nearest(glob.removeprefix("!"), names)
            yield Mistake(("include", index, "tests"), f"include: tests: {glob!r} matches no test{near}")
        if not catalogue.unknown(entry.tests) and not catalogue.select(entry.tests):
            yield Mistake(("include", index, "tests"), "include: tests: leaves out every test")
    for index, suite in enumerate(matrix.suites):
        yield from _unmatched(("suites", index, "kernel"), suite.kernel, kernels)
    for index, exclude in enumerate(matrix.exclude):
        for axis, names in known.items():
            yield from _unmatched(("exclude", index, axis), getattr(exclude, axis), names)


def _unmatched(place: Place, globs: tuple[str, ...], known: list[str]) -> Iterator[Mistake]:
    for glob in globs:
        if glob != "*" and not any(fits(name, (glob,)) for name in known):
            yield Mistake(place, f"{place[0]}: {place[-1]}: {glob!r} matches nothing{nearest(glob, known)}")


def _all(matrix: Matrix, axis: str) -> Iterator[tuple[Place, Cmdline | Sysctl]]:
    """Every command line, or every sysctl, of a matrix with its place."""
    for index, one in enumerate(getattr(matrix, axis)):
        yield (axis, index), one
    for key, entries in (("include", matrix.include), ("suites", matrix.suites)):
        for index, entry in enumerate(entries):
            if one := getattr(entry, axis):
                yield (key, index, axis), one


def _settings(matrix: Matrix) -> Iterator[Mistake]:
    for axis in _SETTINGS:
        seen: dict[str, tuple[Place, Cmdline | Sysctl]] = {}
        for place, one in _all(matrix, axis):
            first, known = seen.setdefault(one.name, (place, one))
            if known != one:
                what = "arguments" if axis == "cmdline" else "values"
                yield Mistake(place, f"{axis} {one.name!r} is defined twice with different {what}", first)


def _same_names(candidates: Iterable[Candidate]) -> Iterator[Mistake]:
    """Different cells, or different machines, with equal printed names."""
    seen: dict[tuple[str, str], tuple[Candidate, object]] = {}
    for candidate in candidates:
        cell = candidate.cell
        for what, name, key in (("cells", cell.id, cell.key), ("machines", cell.machine, cell.machine_key)):
            first, known = seen.setdefault((what, name), (candidate, key))
            if known != key:
                pair = f"{_described(first.cell)}; {_described(cell)}"
                yield Mistake(candidate.place, f"two {what} would be named {name!r}: {pair}", first.place)


def _described(cell: Cell) -> str:
    words = ["kernel", cell.kernel.name, cell.arch, cell.hookset, f"btf {cell.btf}", cell.transport]
    words += [f"cmdline {cell.cmdline.name!r}"] if cell.cmdline else []
    words += [f"sysctl {cell.sysctl.name!r}"] if cell.sysctl else []
    words += [f"world {cell.world}"] if cell.world else []
    return " ".join(words)
