"""Checks and stores the output of each machine, exactly once, and records it in the run.

    parts/MACHINE.tar.zst   the output folder of a machine, as its worker packed it

The archive appears under its name whole or not at all. The archives are removed once every machine has a
result that says something of the product.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.cluster import archive
from harness.errors import HarnessError, InfrastructureError
from harness.plan.plan import Plan
from harness.results import agreement, model, results_file, shard_folders
from harness.results.folder import CELLS, PARTS, TRACEBACK
from harness.results.model import Attempt, CellReport, CellResult, Results, TestResult
from harness.results.verdict import Verdict, worst
from harness.run.run import Run
from harness.text import one_line

_SUFFIX = ".tar.zst"
_MAX_TRACE = 1 << 20
_EXPECTED = "expectations.yaml: "  # the beginning of notes that only the whole run can judge


class Received:
    """The outputs of the machines of `run`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parts = run.folder / PARTS
        self._machines: set[str] = set()  # that have a result, and need not run again

    def known(self) -> set[str]:
        """Return the machines that have a result from an earlier process, after recording it.

        A machine with a cell that failed for the infrastructure runs again.
        """
        for path in sorted(self._parts.glob(f"*{_SUFFIX}")):
            machine = path.name.removesuffix(_SUFFIX)
            if machine in self._run.plan.machines():
                try:
                    self._record_known(machine, path)
                except InfrastructureError as error:
                    self._run.remark(f"{machine} runs again: {path.name}: {error.message}")
        return set(self._machines)

    def _record_known(self, machine: str, path: Path) -> None:
        with self._extracted(machine, path.read_bytes()) as (folder, results):
            if not _unknown(results):
                self._record(machine, folder, results, [])

    def accept(self, machine: str, data: bytes, lost: list[Attempt]) -> Results:
        """Store and record the output of a machine; `lost` are its earlier executions.

        Raises InfrastructureError for an output that is not that of this machine, and OSError.
        """
        with self._extracted(machine, data) as (folder, results):
            self._record(machine, folder, results, lost)
        self._parts.mkdir(exist_ok=True)
        path = self._parts / f"{machine}{_SUFFIX}"
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
        return results

    def remove(self) -> None:
        """Remove the archives once every machine has its result: the folder has their content."""
        if self._machines >= self._run.plan.machines().keys():
            shutil.rmtree(self._parts, ignore_errors=True)

    @contextlib.contextmanager
    def _extracted(self, machine: str, data: bytes) -> Iterator[tuple[Path, Results]]:
        """Yield the folder and the results of an archive. Raises InfrastructureError, and OSError."""
        run = self._run
        plan = run.plan.model_copy(update={"cells": tuple(run.plan.machines()[machine])})
        with tempfile.TemporaryDirectory(prefix=".part-", dir=run.folder) as name:
            folder = Path(name)
            archive.extract(data, folder)
            yield folder, _checked(folder, plan, run)

    def _record(self, machine: str, folder: Path, results: Results, lost: list[Attempt]) -> None:
        run = self._run
        for cell in results.cells:
            _move(folder / CELLS / cell.id, run.folder / CELLS / cell.id)
        if (folder / TRACEBACK).exists():
            with (folder / TRACEBACK).open(encoding="utf-8", errors="replace") as file:
                run.keep_traceback(file.read(_MAX_TRACE))
        for cell in results.cells:
            run.record_cell(report_of(cell, lost))
            for test in cell.tests:
                run.record_test(cell.id, test)
        _record_run(run, machine, results)
        if not _unknown(results):
            self._machines.add(machine)


def complete(folder: Path, plan: Plan) -> Results | None:
    """Return the results of an earlier run if nothing of its plan has to run again."""
    if (folder / PARTS).exists() or not (folder / results_file.FILE).exists():
        return None
    results = results_file.load(folder / results_file.FILE)
    return None if agreement.disagreements(plan, results) or _unknown(results) else results


def _unknown(results: Results) -> bool:
    return any(cell.verdict.unknown for cell in results.cells)


def _checked(folder: Path, plan: Plan, run: Run) -> Results:
    """Return the results in the folder of a part. Raises InfrastructureError if they are of another one."""
    try:
        results = shard_folders.read(folder).results
    except HarnessError as error:
        raise InfrastructureError(f"the output of a worker cannot be used: {error.message}") from error
    if wrong := agreement.disagreements(plan, results):
        raise InfrastructureError(f"the output of a worker is not that of its machine: {wrong[0]}")
    wanted = run.supplies.agent if run.supplies else None
    if wanted and results.run.agent and results.run.agent.bundle != wanted.bundle:
        raise InfrastructureError("the worker tested another agent")
    return results


def _move(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)


def report_of(cell: CellResult, lost: list[Attempt]) -> CellReport:
    """Return the report from which `cell` was made; executions that were `lost` come first."""
    names = CellReport.model_fields.keys() & CellResult.model_fields.keys()
    values = {name: getattr(cell, name) for name in names}
    tests = worst(test.verdict for test in cell.tests)
    first = next((test for test in cell.tests if test.verdict is tests), None)
    final = cell.attempts[-1] if cell.attempts else None
    known = first and (first.verdict, first.reason) == (cell.verdict, cell.reason)
    return CellReport.model_validate(
        {
            **values,
            "closed": bool(cell.closed),
            "attempts": (*lost, *cell.attempts[:-1]),
            "cause": None if known or final is None else final,
        }
    )


def _record_run(run: Run, machine: str, results: Results) -> None:
    """Record what the results of a machine say of the kernel, the host, and the run as a whole."""
    assert run.supplies
    first = results.cells[0]
    run.supplies = run.supplies.model_copy(
        update={
            "kernels": {**run.supplies.kernels, machine: first.kernel},
            "fetch_s": {**run.supplies.fetch_s, machine: first.phases.fetch_s},
            "image_s": {**run.supplies.image_s, machine: first.phases.image_s},
        }
    )
    host = results.run.host
    run.hosts[host.name] = host
    known = {note for cell in results.cells for note in cell.notes}
    others = [note for note in results.run.notes if note not in known and not note.startswith(_EXPECTED)]
    failed = results.run.exit_code == InfrastructureError.exit_code != model.exit_code(results.cells)
    for note in others:
        if failed:
            run.fail(f"{machine} on {host.name}", InfrastructureError(note))
        else:
            run.remark(f"{machine} on {host.name}: {note}")


def record_lost(run: Run, machine: str, lost: list[Attempt]) -> None:
    """Record INFRA for a machine that no worker could run to its end."""
    for cell in run.plan.machines()[machine]:
        cause = lost[-1].model_copy(update={"reason": one_line("; ".join(one.reason for one in lost), 500)})
        run.record_cell(CellReport(id=cell.id, closed=True, attempts=tuple(lost[:-1]), cause=cause))
        for test in cell.tests:
            run.record_test(cell.id, TestResult(name=test, verdict=Verdict.INFRA, reason=cause.reason))


def record_not_run(run: Run, machine: str, reason: str) -> None:
    """Record NOT_RUN for a machine that no worker can run."""
    cause = Attempt(verdict=Verdict.NOT_RUN, reason=reason)
    for cell in run.plan.machines()[machine]:
        run.record_cell(CellReport(id=cell.id, closed=True, cause=cause))
        for test in cell.tests:
            run.record_test(cell.id, TestResult(name=test, verdict=Verdict.NOT_RUN, reason=reason))
