"""Checks and stores the output of each machine, exactly once, and records it in the run.

    parts/MACHINE.tar.zst   the output folder of a machine, as its worker packed it

The archive appears under its name whole or not at all. The archives are removed once every cell has a result
that says something of the product. In the rest of an earlier run, only the other cells run again: a failure
would disappear if its cell passed the next time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.cluster import archive
from harness.errors import HarnessError, IncompleteError, InfrastructureError
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results import agreement, results_file, shard_folders
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
        self._cells: set[str] = set()  # that have a result, and need not run again

    def known(self) -> set[str]:
        """Record the cells that an earlier process has results of; return the machines that have no other.

        A cell that failed for the infrastructure runs again. Raises HarnessError for results of another plan.
        """
        if (self._run.folder / results_file.FILE).exists():
            self._record_earlier(results_file.load(self._run.folder / results_file.FILE))
        machines = self._run.plan.machines()
        for path in sorted(self._parts.glob(f"*{_SUFFIX}")):
            machine = path.name.removesuffix(_SUFFIX)
            if machine in machines:
                try:
                    self._record_known(machine, path)
                except InfrastructureError as error:
                    if self.left(machine):
                        self._run.remark(f"{machine} runs again: {path.name}: {error.message}")
        return {name for name in machines if not self.left(name)}

    def rest(self) -> Plan:
        """Return the plan of the cells that have no result yet."""
        cells = tuple(cell for cell in self._run.plan.cells if cell.id not in self._cells)
        return self._run.plan.model_copy(update={"cells": cells})

    def left(self, machine: str) -> list[Cell]:
        """Return the cells of a machine that have no result yet."""
        return [cell for cell in self._run.plan.machines()[machine] if cell.id not in self._cells]

    def _record_earlier(self, results: Results) -> None:
        """Record what a process stored that ended, also of machines that were interrupted."""
        if wrong := agreement.disagreements(self._run.plan, results):
            raise IncompleteError("\n".join(f"{self._run.folder}: {line}" for line in wrong))
        self._run.hosts |= {host.name: host for host in results.run.hosts}
        known = {cell.id: cell for cell in results.cells if not cell.verdict.unknown}
        for machine, cells in self._run.plan.machines().items():
            if found := [known[cell.id] for cell in cells if cell.id in known]:
                self._record_cells(found, [])
                _record_supplies(self._run, machine, found[0])

    def _record_known(self, machine: str, path: Path) -> None:
        """Record the cells of a stored archive, which need not have all cells of the machine."""
        with self._extracted(path.read_bytes()) as (folder, results):
            ran = {cell.id for cell in results.cells}
            _check(
                results, [cell for cell in self._run.plan.machines()[machine] if cell.id in ran], self._run
            )
            known = [cell for cell in results.cells if not cell.verdict.unknown]
            if known:
                news = [cell for cell in known if cell.id not in self._cells]
                self._record(machine, folder, results, news, [])

    def accept(self, machine: str, data: bytes, lost: list[Attempt]) -> Results:
        """Store and record the output of a machine; `lost` are its earlier executions.

        Raises InfrastructureError for an output that is not that of this machine, and OSError.
        """
        with self._extracted(data) as (folder, results):
            _check(results, self.left(machine), self._run)
            self._record(machine, folder, results, results.cells, lost)
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
        """Remove the archives once every cell has its result: the folder has their content."""
        if not self.rest().cells:
            shutil.rmtree(self._parts, ignore_errors=True)

    @contextlib.contextmanager
    def _extracted(self, data: bytes) -> Iterator[tuple[Path, Results]]:
        """Yield the folder and the results of an archive. Raises InfrastructureError, and OSError."""
        with tempfile.TemporaryDirectory(prefix=".part-", dir=self._run.folder) as name:
            folder = Path(name)
            archive.extract(data, folder)
            try:
                found = shard_folders.read(folder).results
            except HarnessError as error:
                problem = f"the output of a worker cannot be used: {error.message}"
                raise InfrastructureError(problem) from error
            yield folder, found

    def _record(
        self,
        machine: str,
        folder: Path,
        results: Results,
        cells: Sequence[CellResult],
        lost: list[Attempt],
    ) -> None:
        """Record these cells of the output of a machine, and what it says of the run as a whole."""
        run = self._run
        for cell in cells:
            _move(folder / CELLS / cell.id, run.folder / CELLS / cell.id)
        if (folder / TRACEBACK).exists():
            with (folder / TRACEBACK).open(encoding="utf-8", errors="replace") as file:
                run.keep_traceback(file.read(_MAX_TRACE))
        self._record_cells(cells, lost)
        _record_run(run, machine, results)

    def _record_cells(self, cells: Iterable[CellResult], lost: list[Attempt]) -> None:
        for cell in cells:
            self._run.record_cell(report_of(cell, lost))
            for test in cell.tests:
                self._run.record_test(cell.id, test)
            if not cell.verdict.unknown:
                self._cells.add(cell.id)


def complete(folder: Path, plan: Plan) -> Results | None:
    """Return the results of an earlier run if nothing of its plan has to run again."""
    if (folder / PARTS).exists() or not (folder / results_file.FILE).exists():
        return None
    results = results_file.load(folder / results_file.FILE)
    return None if agreement.disagreements(plan, results) or _unknown(results) else results


def _unknown(results: Results) -> bool:
    return any(cell.verdict.unknown for cell in results.cells)


def _check(results: Results, cells: Iterable[Cell], run: Run) -> None:
    """Raise InfrastructureError if these are not the results of these cells, or of another agent."""
    plan = run.plan.model_copy(update={"cells": tuple(cells)})
    if not results.cells:
        raise InfrastructureError("the output of a worker has no cell")
    if wrong := agreement.disagreements(plan, results):
        raise InfrastructureError(f"the output of a worker is not that of its machine: {wrong[0]}")
    wanted = run.supplies.agent if run.supplies else None
    if wanted and results.run.agent and results.run.agent.bundle != wanted.bundle:
        raise InfrastructureError("the worker tested another agent")


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
    _record_supplies(run, machine, results.cells[0])
    host = results.run.host
    run.hosts[host.name] = host
    known = {note for cell in results.cells for note in cell.notes}
    for failure in results.run.failures:
        known.add(failure.what)
        run.record_failure(failure.model_copy(update={"what": f"{machine} on {host.name}: {failure.what}"}))
    for note in results.run.notes:
        if note not in known and not note.startswith(_EXPECTED):
            run.remark(f"{machine} on {host.name}: {note}")


def _record_supplies(run: Run, machine: str, first: CellResult) -> None:
    """Record the kernel of a machine and the times of its supplies, from its first cell that ran."""
    assert run.supplies
    run.supplies = run.supplies.model_copy(
        update={
            "kernels": {**run.supplies.kernels, machine: first.kernel},
            "fetch_s": {machine: first.phases.fetch_s, **run.supplies.fetch_s},
            "image_s": {machine: first.phases.image_s, **run.supplies.image_s},
        }
    )


def record_lost(run: Run, cells: Iterable[Cell], lost: list[Attempt]) -> None:
    """Record INFRA for the cells of a machine that no worker could run to its end."""
    for cell in cells:
        cause = lost[-1].model_copy(update={"reason": one_line("; ".join(one.reason for one in lost), 500)})
        run.record_cell(CellReport(id=cell.id, closed=True, attempts=tuple(lost[:-1]), cause=cause))
        for test in cell.tests:
            run.record_test(cell.id, TestResult(name=test, verdict=Verdict.INFRA, reason=cause.reason))


def record_not_run(run: Run, cells: Iterable[Cell], reason: str) -> None:
    """Record NOT_RUN for the cells of a machine that no worker can run."""
    cause = Attempt(verdict=Verdict.NOT_RUN, reason=reason)
    for cell in cells:
        run.record_cell(CellReport(id=cell.id, closed=True, cause=cause))
        for test in cell.tests:
            run.record_test(cell.id, TestResult(name=test, verdict=Verdict.NOT_RUN, reason=reason))
