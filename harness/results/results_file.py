"""Reads and writes results.json, cell by cell, and checks that results are complete and consistent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError

from harness.errors import ConfigError
from harness.host import files, garbage
from harness.results.model import (
    CELLS_END,
    CELLS_FOLLOW,
    CellResult,
    Results,
    TestResult,
    complete,
    exit_code,
    totals,
)
from harness.results.packed import failed
from harness.results.verdict import RUN_EXIT_CODES, Verdict, worst_exit_code
from harness.text import counted, one_line

FILE = "results.json"
MAX_BYTES = 1 << 30  # of results.json: 1,000 cells of 100 tests take 420 MiB
_CELLS = CELLS_FOLLOW.encode()


def write(results: Results, folder: Path) -> None:
    """Write results.json into `folder`, without its whole text in memory. Raises OSError."""
    files.write_atomic(folder / FILE, results.lines())


def load(path: Path) -> Results:
    """Read results.json. Raises ConfigError if the file is invalid, truncated or inconsistent.

    A file in the format of `Results.lines` is read cell by cell. Other JSON, such as the file of an older
    harness, is read at once, which takes five times its size of memory.
    """
    try:
        with files.open_regular(path) as file, garbage.paused():
            lines = files.lines_up_to(file, path, MAX_BYTES)
            first = next(lines, b"")
            results = (
                _by_cell(path, first, lines)
                if first.endswith(_CELLS)
                else Results.model_validate_json(first + b"".join(lines))
            )
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: not a results file: {first_problem(error)}") from error
    if problem := contradiction(results):
        raise ConfigError(f"{path}: {problem}")
    return results


def _by_cell(path: Path, first: bytes, lines: Iterator[bytes]) -> Results:
    head = Results.model_validate_json(first + CELLS_END.encode())
    cells: list[CellResult] = []
    for line in lines:
        if line == CELLS_END.encode() and not next(lines, b""):
            return head.model_copy(update={"cells": tuple(cells)})
        try:
            cells.append(CellResult.model_validate_json(line.rstrip(b",\n")))
        except ValidationError as error:
            problem = first_problem(error, "cells", len(cells))
            raise ConfigError(f"{path}: not a results file: {problem}") from error
    raise ConfigError(f"{path}: not a results file: it ends after {counted(len(cells), 'cell')}")


def first_problem(error: ValidationError, *place: str | int) -> str:
    """Return where the first problem of a file is, below `place`, and what it is."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in (*place, *first["loc"]))
    return one_line(f"{where or 'the file'}: {first['msg']}")


def read_bounded(path: Path) -> bytes:
    """Read a regular file of a run folder. Raises OSError, also for a file that is too large."""
    return files.read_regular(path, MAX_BYTES)


def begins_with(path: Path, key: str) -> bool:
    """Whether `key` is the first key of a JSON file, so that its format is known before it is read.

    Raises OSError.
    """
    with files.open_regular(path) as file:
        return re.match(rb'\s*\{\s*"%s"\s*:' % re.escape(key.encode()), file.read(256)) is not None


def contradiction(results: Results) -> str:
    """The first inconsistency in the results, or "". A file may have been edited or truncated."""
    if results.totals != totals(results.cells):
        return "the totals do not match the tests"
    if twice := _twice(results.cells):
        return f"{twice} appears twice"
    for cell in results.cells:
        if any(test.verdict.badness > cell.verdict.badness for test in cell.tests):
            return f"{cell.id} is {cell.verdict}, and one of its tests is worse"
        if cell.closed is False and cell.verdict.expected:
            return f"{cell.id} is {cell.verdict}, and its end was not checked"
        problems = (
            _belied(cell.id, cell),
            *(_belied(f"{cell.id}::{test.name}", test) for test in cell.tests),
        )
        if any(problems):
            return next(filter(None, problems))
    return _contradiction_of_run(results)


def _contradiction_of_run(results: Results) -> str:
    if results.run.exit_code not in RUN_EXIT_CODES:
        return f"no run ends with the exit code {results.run.exit_code}"
    if results.run.failures and not results.run.exit_code:
        return f"the run has exit code 0, and the harness failed: {one_line(results.run.failures[0].what)}"
    if not results.run.complete and not results.run.exit_code:
        return "the run has exit code 0, and is not marked as complete"
    if results.run.complete and not complete(results.cells):
        return "the run is marked as complete, but a test was not run or the end of a cell was not checked"
    # A run may have a worse exit code than its cells, for a reason that no cell shows, but never a better
    # one. An unexpected error of the harness is 3, also if tests did not run because of it.
    codes = exit_code(results.cells), results.run.exit_code
    if worst_exit_code(codes) != codes[1] and codes != (4, 3):
        return f"the run has exit code {codes[1]}, and its cells end with {codes[0]}"
    return ""


def _belied(name: str, judged: CellResult | TestResult) -> str:
    """Why the cell or test `name` cannot be the PASS or SKIP that it claims to be; "" if it can."""
    if judged.verdict not in (Verdict.PASS, Verdict.SKIP):
        return ""
    if any(not splat.allowed for splat in judged.splats):
        return f"{name} is {judged.verdict}, and the kernel complained"
    if isinstance(judged, TestResult):
        if failed(judged.assertions):
            return f"{name} is {judged.verdict}, and one of its assertions failed"
        if any(attempt.verdict.exit_code == Verdict.FAIL.exit_code for attempt in judged.attempts):
            return f"{name} is {judged.verdict}, and failed before"
    return ""


def _twice(cells: Sequence[CellResult]) -> str:
    """The first cell, or test of a cell, that appears twice; "" if there is none."""
    lists = [[cell.id for cell in cells], *([f"{c.id}::{test.name}" for test in c.tests] for c in cells)]
    for names in lists:
        if len(set(names)) < len(names):
            return next(name for name in names if names.count(name) > 1)
    return ""
