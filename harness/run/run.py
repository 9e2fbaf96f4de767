"""The controller's side of a run: plan, supplies, results, reports and the exit code.

`harness run` and `pytest matrix.yaml` are the same run with different output. A worker gets a `Job`, which is
plain data.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import secrets
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from harness.errors import ConfigError, HarnessError, IncompleteError, InfrastructureError, ProductError
from harness.host import files, paths, signals
from harness.host.deadlines import Pace
from harness.host.progress import Progress
from harness.host.version import digest_of_harness
from harness.kernels import named
from harness.plan import checked as config
from harness.plan import cost, plan, shards
from harness.plan.matrix import Matrix
from harness.plan.plan import Plan, Selectors
from harness.results import agreement, exercise, expectations, model, results_file, scenarios, tested, visits
from harness.results import folder as runfolder
from harness.results.model import CellReport, CellResult, Failure, Host, Results, RunInfo, TestResult
from harness.results.verdict import Verdict, worst_exit_code
from harness.run import hosts, package, supplying, times, validators
from harness.run.job import Job
from harness.run.machines import Bench
from harness.run.options import SELECTORS
from harness.run.supplies import Deliveries, Supplies
from harness.text import is_utf8, one_line, visible


class Options(BaseModel):
    """The options of a run."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    matrix: Path
    selectors: Selectors = Selectors()
    output: Path = Path("out")  # the parent of the run folders
    folder: Path | None = None  # of this run, if the user named one
    cold: bool = False
    connect: str = ""  # URI of libvirt; "" is the embedded one
    accelerator: str = "auto"
    deadline_s: float = 0.0  # of the whole run; 0 means none
    shard: str = ""  # such as "2/3"
    plan: Plan | None = None  # used instead of the matrix's plan
    must_pass: bool = False  # whether each test must pass in some cell
    keep_on_fail: bool = False
    base: Path | None = None  # folder of the files of suites; default: the matrix's folder
    part: bool = False  # whether other hosts run other parts of the plan
    resume: bool = False  # whether the folder has results of this plan already
    earlier: RunInfo | None = None  # the run of other cells, which must have tested the same
    failures: tuple[Failure, ...] = ()  # of the harness, in that run
    host: str = ""  # the name of this host in the results; default: its network name
    argv: tuple[str, ...] = ()

    @field_validator("matrix")
    @classmethod
    def _without_detours(cls, path: Path) -> Path:
        # pytest names files by such a path. A link to a matrix is not resolved: files beside it belong to it.
        return paths.real(path.parent) / path.name if path.name else path


def options_of(values: Mapping[str, Any], matrix: Path, argv: Sequence[str]) -> Options:
    """Return the options of a command line; `values` has every option of `harness.run.options`."""
    return Options(
        matrix=matrix,
        selectors=Selectors(**{one.name: tuple(values[one.attribute]) for one in SELECTORS}),
        folder=values["output"],
        cold=values["cold"],
        connect=values["connect"],
        accelerator=values["accelerator"],
        shard=values["shard"],
        must_pass=values["must_pass"],
        keep_on_fail=values["keep_on_fail"],
        deadline_s=values["deadline"],
        argv=tuple(argv),
    )


Write = Callable[[Results, Path], None]
"""Writes the reports of a run into its folder, after results.json."""


class Run:
    """A run in the controller; `plan` may be narrowed until the first test starts."""

    def __init__(self, options: Options, bench: Bench, write: Write | None = None) -> None:
        self.options = options
        self.bench = bench
        self._write = write
        self.known = expectations.load(options.matrix.parent / expectations.NAME)
        self._test_names = list(scenarios.of_catalogue())
        self.matrix: Matrix | None = None  # unless the plan is given
        self.plan = self._plan()
        self.started = datetime.datetime.now(datetime.UTC)
        self.id = f"{self.started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        self.folder = (options.folder or options.output / self.id).absolute()
        for path in (options.matrix, self.folder):
            if not is_utf8(str(path)):
                raise ConfigError(f"{path}: the name is not UTF-8", hint="rename the folder, or use another")
        self._claimed: int | None = None  # the locked folder, once it exists
        self._latest = False  # whether `latest` is a link to it
        self._stored = False  # whether results.json has what an earlier process left, and what is known now
        self.harness_digest = digest_of_harness()  # before the user can change a file
        self.package_digest = ""
        self.supplies: Supplies | None = None
        self.deliveries: Deliveries | None = None  # if supplies arrive during the run
        self.why_not = "the run ended before it"
        self._interrupted = ""  # the reason, if it was
        self._failures = list(options.failures)
        self.inputs: dict[str, str] = {}  # see `tested.inputs`; known after `check`
        self._remarks: list[str] = []
        self.turn: Callable[[], object] = lambda: None  # in this process, waits until a machine may boot
        self.hosts: dict[str, Host] = {}  # other hosts on which cells ran, by name
        self._foreign: list[str] = []  # ids of failed tests of other files
        self._traces: list[tuple[str, str]] = []  # (folder, traceback), not written yet
        self._began = time.monotonic()
        self.pace = Pace(self._began + options.deadline_s if options.deadline_s else None, options.deadline_s)
        self._tests: dict[tuple[str, str], TestResult] = {}
        self._visits: dict[str, dict[str, CellReport]] = {}  # by cell and visit
        self.finished: Results | None = None

    def _plan(self) -> Plan:
        whole = self._whole_plan()
        if self.options.must_pass and self.options.shard:
            raise ConfigError("--must-pass: a shard does not know what others run; leave out --shard")
        if self.options.must_pass:
            whole = whole.model_copy(update={"must_pass": True})
        known = times.read_shared(self.options.matrix.parent / cost.TIMES) if self.options.shard else {}
        return shards.part(whole, self.options.shard, known) if self.options.shard else whole

    def _whole_plan(self) -> Plan:
        if self.options.plan:
            self._test_names += [test for cell in self.options.plan.cells for test in cell.tests]
            return self.options.plan
        selectors = self.options.selectors
        self.matrix, words = named.added(config.load(self.options.matrix), selectors.kernel)
        matrix, selectors = self.matrix, selectors.model_copy(update={"kernel": words})
        self._test_names += [suite.test for suite in matrix.suites]
        if all(plan.has_kernel(matrix, glob) for glob in selectors.kernel):
            return plan.make(matrix, selectors)
        # The others may be releases, which only the repositories know.
        everything = plan.make(matrix, selectors.model_copy(update={"kernel": ()}))
        return plan.make(matrix, selectors, self.bench.releases(everything))

    @property
    def host(self) -> str:
        """The name of this host in the results."""
        return self.options.host or hosts.name()

    @property
    def base(self) -> Path:
        """The folder to which the file names of suites are relative."""
        return self.options.base or self.options.matrix.parent

    def prepare(self, progress: Progress) -> None:
        """Fetch and build all files once; write plan.json. Raises HarnessError if no machine can boot."""
        if not self.supplies:
            self.check()
            self.begin(self._delivered(progress).whole())

    def renew(self, progress: Progress) -> None:
        """Fetch and build everything again, because a kernel changed. Raises HarnessError."""
        self.supplies = self._delivered(progress).whole()

    def deliver(self, progress: Progress) -> None:
        """Do as `prepare`, but return as soon as one machine can boot; the others are in `deliveries`."""
        if not self.supplies:
            self.check()
            self.deliveries = self._delivered(progress)
            self.begin(self.deliveries.arrived())

    def _delivered(self, progress: Progress) -> Deliveries:
        order = cost.longest_first(self.plan, times.read_times(self.times_path))
        explain = not self.options.part
        return supplying.delivered(self.bench, self.plan, self.base, progress, order, explain=explain)

    def supplies_of(self, machine: str) -> Supplies:
        """Return the supplies of a machine, once they have arrived."""
        assert self.supplies
        return self.deliveries.of(machine) if self.deliveries else self.supplies

    def check(self) -> None:
        """Raise ConfigError if files are missing, or not those of the run whose results these join."""
        self.inputs = tested.inputs(self.plan, self.base, self.known)
        self.package_digest = package.check(self.plan, self.base)
        if self.options.earlier:
            tested.check_rest(self.options.earlier, self.harness_digest, self.package_digest, self.inputs)
        if not self.options.resume:
            runfolder.check(self.folder)

    def begin(self, supplies: Supplies) -> None:
        """Write plan.json into the folder of the run. Raises ConfigError."""
        if self.options.earlier:
            tested.check_agent(self.options.earlier.agent, supplies.agent)
        # Only now, so that an unknown series leaves neither a folder nor another `latest`.
        self._make_folder()
        self.write_plan()
        self.supplies = supplies

    def job(self) -> Job:
        """Return what the workers need; call `prepare` first."""
        assert self.supplies
        return Job(
            matrix=self.options.matrix,
            folder=self.folder,
            plan=self.plan,
            supplies=self.supplies,
            known=self.known,
            keep_on_fail=self.options.keep_on_fail,
            ends_at=self.pace.ends_at,
            limit_s=self.pace.limit_s,
            host=self.host,
        )

    def ending(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which SIGINT, SIGTERM, SIGHUP and the deadline raise KeyboardInterrupt."""
        with signals.held_back():
            validators.build()
        return signals.ending(self.interrupt, self.pace.left(), self.pace.why)

    def interrupt(self, why: str) -> None:
        """Record that the run ends early because of `why`; the first reason counts."""
        if not self._interrupted:
            self.why_not = self._interrupted = why

    def fail(self, what: str, error: BaseException, trace: str = "") -> None:
        """Record a failure of the harness itself; the run exits at least 3.

        An unexpected error leaves its traceback, and exits 3 even if tests did not run because of it.
        """
        line = f"{what}: {one_line(str(error)) or type(error).__name__}"
        unexpected = not isinstance(error, HarnessError)
        self.record_failure(Failure(what=line, unexpected=unexpected))
        if unexpected:
            self.keep_traceback(trace or "".join(traceback.format_exception(error)))

    def record_defect(self, what: str, trace: str, cell: str) -> None:
        """An unexpected error in a test of `cell`, which has it as its verdict: the run exits at least 3."""
        self.record_failure(Failure(what=f"{cell}: {what}", cell=cell, unexpected=True))
        self.keep_traceback(trace, cell)

    def record_failure(self, failure: Failure) -> None:
        """Record a failure of the harness itself, here or on another host; the run exits at least 3."""
        self._failures = list(dict.fromkeys((*self._failures, failure)))

    def remark(self, line: str) -> None:
        """Record a remark on the whole run for its notes."""
        self._remarks.append(one_line(line))

    def record_foreign(self, nodeid: str) -> None:
        """A test beside the matrix failed: the run exits 1, and its notes name the test."""
        if nodeid not in self._foreign:
            self._foreign.append(nodeid)

    def keep_traceback(self, trace: str, cell: str = "") -> None:
        """Append a traceback to traceback.txt in the folder of the run, or of one of its cells."""
        self._traces.append((f"{runfolder.CELLS}/{cell}" if cell else ".", trace))
        if self._claimed is not None:
            self._write_traces()

    @property
    def failed(self) -> bool:
        """Whether the harness itself failed."""
        return bool(self._failures)

    def _write_traces(self) -> None:
        while self._traces:
            where, trace = self._traces.pop(0)
            runfolder.append_traceback(self.folder / where, trace)

    def abandon(self) -> Results:
        """Write the results of a run that ended early; tests without a result are NOT_RUN.

        The results of an earlier process stay in the folder until this one has joined them.
        """
        if self._claimed is None:
            self._make_folder()
            self._write_traces()
        if self.options.resume and not self._stored and (self.folder / results_file.FILE).exists():
            self.finished = self._unchanged(results_file.load(self.folder / results_file.FILE))
            return self.finished
        self.write_plan()
        self.finish()
        assert self.finished
        return self.finished

    def _unchanged(self, earlier: Results) -> Results:
        """Return earlier results with the exit code of this process, and why it ended."""
        code = worst_exit_code((earlier.run.exit_code, self._exit_code(earlier.cells, ())))
        failures = tuple(dict.fromkeys((*earlier.run.failures, *self._failures)))
        said = filter(None, (*earlier.run.notes, self._interrupted, *model.without_cell(self._failures)))
        notes = tuple(dict.fromkeys(said))
        run = earlier.run.model_copy(update={"exit_code": code, "notes": notes, "failures": failures})
        return earlier.model_copy(update={"run": run})

    def narrow(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep only the tests that pytest selected (-k, --lf, ids), by cell and test."""
        kept = self.plan.narrowed(pairs)
        if kept != self.plan:
            self.plan = kept
            self.write_plan()
        self._point_latest()

    def _point_latest(self) -> None:
        """From now on `latest` is this run: some test of it runs, or it has results."""
        if self.plan.cells and self.options.folder is None and not self._latest:
            self._latest = True
            try:
                runfolder.point_latest_at(self.folder)
            except OSError as error:
                # Without it `latest` leads to the results of an earlier run.
                self.fail("`latest` does not lead to this run", InfrastructureError(str(error)))

    def withdraw(self) -> None:
        """Leave no folder of a run that has nothing to run; `latest` is unchanged."""
        if self._claimed is not None and self.options.folder is None:
            runfolder.withdraw(self.folder)
            self._claimed = None

    def write_plan(self) -> None:
        """Write plan.json."""
        files.write_atomic(self.folder / "plan.json", self.plan.to_json())

    def record_test(self, cell: str, result: TestResult) -> None:
        """Record the result of a test; of two results the worse one counts."""
        known = self._tests.get((cell, result.name))
        self._tests[cell, result.name] = visits.worse(known, result) if known else result

    def record_cell(self, found: CellReport) -> list[str]:
        """Record the report of a cell, replacing one of the same visit; return the remarks that are new."""
        known = self._machine_notes()
        self._visits.setdefault(found.id, {})[found.visit] = found
        return [note for note in found.notes if note not in known]

    def _machine_notes(self) -> list[str]:
        """Return the remarks on all machines, each once."""
        reports = (report for visits in self._visits.values() for report in visits.values())
        return list(dict.fromkeys(note for report in reports for note in report.notes))

    def reap(self) -> list[str]:
        """End machines of dead processes; return a line for each. A failure is a line and fails the run."""
        try:
            return list(self.bench.reap())
        except (HarnessError, OSError) as error:
            self.fail("machines of dead processes could not be ended", error)
            return [self._failures[-1].what]

    def finish(self) -> int:
        """Write all reports, then clean up; return the exit code. Signals are ignored meanwhile.

        Results are written first, because the cleanup may fail or be killed.
        """
        with signals.ignored():
            self._end_deliveries()
            self._point_latest()
            try:
                self._publish()
            finally:
                known = len(self._failures)
                self._clean_up()
            if len(self._failures) > known:
                self._publish()
        assert self.finished
        return self.finished.run.exit_code

    def _end_deliveries(self) -> None:
        """Fetch no more; the results have the kernels that have arrived."""
        if self.deliveries and self.supplies:
            self.deliveries.end()
            self.supplies = self.supplies.joined(self.deliveries.arrived())
            for machine, error in self.deliveries.defects().items():
                self.fail(f"the files of {machine} could not be made", error)
            self.deliveries = None

    def _clean_up(self) -> None:
        for step in (self.bench.reap, self.bench.close):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - an error of libvirt must not cost the results
                self.fail("cleaning up failed", error)

    def _publish(self) -> None:
        results = self._results()
        if wrong := agreement.disagreements(self.plan, results):
            raise AssertionError(f"results and plan differ: {wrong}")
        results_file.write(results, self.folder)
        if self._write:
            self._write(results, self.folder)
        times.write_times(self.times_path, results.cells)
        self.finished = results

    def store(self) -> None:
        """Write results.json as it is now: `--resume` needs it if this process is killed."""
        results_file.write(self._results(), self.folder)
        self._stored = True

    @property
    def times_path(self) -> Path:
        """The file with the times of earlier runs."""
        return (self.options.folder or self.options.output) / ".times.json"

    def _make_folder(self) -> None:
        if self.options.resume:
            self._claimed = runfolder.reopen(self.folder)
        else:
            self._claimed = runfolder.make(self.folder, own=self.options.folder is None)

    def _results(self) -> Results:
        from importlib.metadata import version  # slow to import, and most commands write no results

        kernels = self.supplies.kernels if self.supplies else {}
        reports = self._reports()
        if self.supplies:
            reports |= self.supplies.timed(self.plan, reports)
        cells = model.cells_of(self.plan, reports, self._tests, kernels, self.why_not)
        whole = not (self.options.shard or self.options.part)
        unused = exercise.unexercised(self.plan, cells) if whole else []
        untried = exercise.untried(self.plan, cells) if whole else []
        return Results(
            run=RunInfo(
                id=self.id,
                started=self.started.isoformat(timespec="seconds"),
                duration_s=round(time.monotonic() - self._began, 3),
                argv=tuple(visible(word) for word in self.options.argv),
                exit_code=self._exit_code(cells, unused),
                complete=model.complete(cells) and not self._interrupted,
                host=hosts.this(self.host),
                hosts=tuple(self.hosts[name] for name in sorted(self.hosts)),
                accelerator=self._accelerator(),
                harness_version=version("fim-harness"),
                harness_digest=self.harness_digest,
                package_digest=self.package_digest,
                agent=self.supplies.agent if self.supplies else None,
                inputs=self.inputs,
                notes=tuple(filter(None, self._notes(unused, untried))),
                failures=tuple(self._failures),
            ),
            cells=cells,
            totals=model.totals(cells),
            scenarios=scenarios.of_cells(cells),
        )

    def _exit_code(self, cells: Sequence[CellResult], unused: Sequence[str]) -> int:
        """Return that of the cells, but at least 3 if the harness failed, and at least 4 if interrupted."""
        code = model.exit_code(cells, unused)
        if any(one.unexpected for one in self._failures) and code == IncompleteError.exit_code:
            code = InfrastructureError.exit_code
        if self._failures:
            code = worst_exit_code((code, InfrastructureError.exit_code))
        if self._foreign:
            code = ProductError.exit_code
        return worst_exit_code((code, IncompleteError.exit_code)) if self._interrupted else code

    def _reports(self) -> dict[str, CellReport]:
        return {cell: visits.joined(list(found.values())) for cell, found in self._visits.items()}

    def _accelerator(self) -> str:
        """Return the accelerators that machines used, or the planned one if no machine booted."""
        used = sorted({found.accelerator for found in self._reports().values() if found.accelerator})
        return ", ".join(used) or (self.supplies.accelerator if self.supplies else "none")

    def _notes(self, *found: Sequence[str]) -> Iterator[str]:
        """Yield the remarks on the whole run: failures, machines, and scenarios that did not run."""
        yield self._interrupted
        yield from model.without_cell(self._failures)
        yield from self._remarks
        for nodeid in self._foreign:
            yield f"{one_line(nodeid)}: a test beside the matrix failed"
        yield from self._machine_notes()
        yield from itertools.chain(*found, self._unmatched())

    def _unmatched(self) -> Sequence[str]:
        """Return expectations that match no result or, in a run of selected parts, name no test at all."""
        if not self.plan.exercise:
            return expectations.unknown(self.known, self._test_names)
        reports = self._reports()
        judged = [
            (cell, reports.get(cell.id, CellReport(id=cell.id)), self._result(cell.id, test))
            for cell in self.plan.cells
            for test in cell.tests
        ]
        return expectations.unmatched(self.known, judged)

    def _result(self, cell: str, test: str) -> TestResult:
        absent = TestResult(name=test, verdict=Verdict.NOT_RUN, reason=self.why_not)
        return self._tests.get((cell, test), absent)
