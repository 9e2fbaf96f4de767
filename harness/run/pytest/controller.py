"""The controller's half of the pytest plugin: it plans, fetches, hands out, gathers and reports."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, HarnessError, InfrastructureError
from harness.host.capacity import cpus, free_mib, workers_for
from harness.host.progress import Event, Phase, Progress, Step, silent
from harness.plan.cost import longest_first
from harness.plan.matrix import close_to
from harness.results.model import Attempt, CellReport, Results, TestResult
from harness.results.verdict import Verdict
from harness.run.judge import as_result
from harness.run.pytest.plugin import WORKER, values
from harness.run.pytest.scheduler import MachineScheduling
from harness.run.pytest.worker import (
    CELL_PROPERTY,
    PROGRESS_CHANNEL,
    TEST_PROPERTY,
    MatrixFile,
    TestItem,
    Worker,
    from_worker,
    same_file,
)
from harness.run.run import NODE_SEPARATOR, Run, asked, pair_of
from harness.run.times import Estimate, read_times
from harness.run.view import View
from harness.text import one_line


def for_pytest(config: pytest.Config, path: Path) -> Controller:
    """The controller of a pytest that was started by hand; a matrix that is wrong ends pytest with 2."""
    options = asked(values(config), path, ("pytest", *map(str, config.invocation_params.args)))
    options = options.model_copy(update={"output": config.invocation_params.dir / options.output})

    def write(results: Results, folder: Path) -> None:
        config.hook.pytest_harness_write(results=results, folder=folder)

    try:
        run = Run(options, config.hook.pytest_harness_bench(config=config), write)
    except HarnessError as error:
        pytest.exit(_message(error), returncode=error.exit_code)
    # SIGTERM and SIGHUP end pytest as Ctrl-C does; it would leave machines otherwise.
    ending = contextlib.ExitStack()
    ending.enter_context(run.ending())
    config.add_cleanup(ending.close)
    return Controller(run, None)


class _EndedError(KeyboardInterrupt):
    """Ends a session without a word of pytest's."""


class Controller:
    """A run as a pytest plugin; `view` is None where pytest's own terminal reporter shows the tests."""

    def __init__(self, run: Run, view: View | None) -> None:
        self.run = run
        self.view = view
        self.error: Exception | None = None  # what ended the session before anything ran
        self.listed = False  # whether the tests were only collected
        self._rootpath = Path()
        self._ours: dict[str, bool] = {}  # whether a file, as ids have it, is the matrix
        self._workers: set[int] = set()  # process ids of xdist's
        self._machines: dict[object, str] = {}  # by worker: the machine that it reported last
        self._scheduler: MachineScheduling | None = None
        self._worker: Worker | None = None  # without xdist
        self._narrowed = False

    def workers(self) -> int:
        """How many machines at once; 0, which is this process, where there is only one."""
        machines = len(self.run.plan.machines())
        return workers_for(machines, cpus(), free_mib()) if machines > 1 else 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Fetch and build what the tests that are asked for need, before xdist starts its workers."""
        self._rootpath = session.config.rootpath
        self.listed = bool(session.config.option.collectonly)
        try:
            self._keep_named(session.config.args)
            if self.listed:
                return
            hook = session.config.hook
            shown = contextlib.nullcontext(self.view) if self.view else hook.pytest_harness_view()
            with shown as progress:
                self.run.prepare(progress)
        except Exception as error:
            if self.view:
                self.error = error
                raise _EndedError from error  # the caller prints it
            if isinstance(error, HarnessError):
                pytest.exit(_message(error), returncode=error.exit_code)
            raise

    def _keep_named(self, words: Sequence[str]) -> None:
        """Where every argument for the matrix is the id of a cell or of a test, plan only those.

        Raises ConfigError for an id that the plan does not have.
        """
        matrix, pairs = self.run.options.matrix, self.run.plan.pairs()
        ours = (word for word in words if same_file(Path(_file_of(word)), matrix))
        ids = [tuple(word.split(NODE_SEPARATOR)[1:]) for word in ours]
        for wanted in ids:
            if not any(pair[: len(wanted)] == wanted for pair in pairs):
                known = [NODE_SEPARATOR.join(pair[: len(wanted)]) for pair in pairs]
                word = NODE_SEPARATOR.join(wanted)
                raise ConfigError(f"{matrix.name}::{word}: not in the plan{close_to(word, known)}")
        kept = [pair for pair in pairs if any(pair[: len(wanted)] == wanted for wanted in ids)]
        self.run.plan = self.run.plan.narrowed(kept) if ids else self.run.plan

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> MatrixFile | None:
        """The matrix, and only the one that was asked for."""
        if not same_file(file_path, self.run.options.matrix):
            return None
        return MatrixFile.from_parent(parent, path=file_path, plan=self.run.plan)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist this process knows what is left, and runs it itself."""
        config = session.config
        if self.listed and self.view:
            sys.stdout.writelines(f"{item.nodeid}\n" for item in session.items)
        if self.listed or getattr(config.option, "dist", "no") != "no":
            return
        self._narrow([item.nodeid for item in session.items if isinstance(item, TestItem)], 1)
        self._worker = Worker(self.run.job(), self.run.bench, self.view or silent)
        config.pluginmanager.register(self._worker, WORKER)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell a worker of xdist's what the run is."""
        node.workerinput["harness_job"] = self.run.job().model_dump_json(by_alias=True)
        self._workers.add(node.gateway._rinfo().pid)
        channel = node.gateway.newchannel()
        channel.setcallback(from_worker(self._progress_of(node)))
        node.workerinput[PROGRESS_CHANNEL] = channel

    def _progress_of(self, node: Any) -> Progress:
        def report(event: Event, /) -> None:
            if isinstance(event, Step):
                self._machines[node] = event.machine
            self._say(event)

        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> MachineScheduling:
        """Our own scheduler."""
        order = longest_first(self.run.plan, read_times(self.run.times_path))
        self._scheduler = MachineScheduling(config, self._machine_of, order)
        return self._scheduler

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """The first worker to collect says what pytest's own selection left."""
        assert self._scheduler
        self._narrow(ids, self._scheduler.numnodes)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker ended: record its last reports, or that it died."""
        self._record(getattr(node, "workeroutput", {}).get(CELL_PROPERTY, []))
        if error:
            for line in self.run.reap():
                self._say(line)
            self.run.fail(f"worker {node.gateway.id} died", InfrastructureError(str(error)))
            self._say(f"worker {node.gateway.id} died: {one_line(str(error))}")
            self._say(Step(Phase.WAIT, machine=self._machines.get(node, "")))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A phase of an item ended, here or in a worker."""
        if not self._is_ours(report.nodeid):
            if report.failed:
                self.run.record_foreign(report.nodeid)
            return
        properties = dict(report.user_properties)
        cell, test = pair_of(report.nodeid)
        self._record(str(value) for name, value in report.user_properties if name == CELL_PROPERTY)
        if report.when == "call" and TEST_PROPERTY in properties:
            self._ended(cell, TestResult.model_validate_json(str(properties[TEST_PROPERTY])))
        elif report.failed:
            self._ended(cell, _of_ours(test, report))
            self.run.record_defect(report.longreprtext, cell)

    def pytest_internalerror(self, excrepr: object, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """A defect of the harness, in this process or in a worker."""
        self.run.fail("the harness failed", excinfo.value, str(excrepr))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """End the workers at once: xdist would wait ten seconds for them. What they leave is reaped.

        Other children of this process are not ours: of a plugin, or of a test beside the matrix.
        """
        if not self.error and not isinstance(
            excinfo.value, pytest.Session.Interrupted | pytest.exit.Exception
        ):
            self.run.interrupt("the run was interrupted")
        for pid in self._workers.intersection(_children()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the reports, and say how the run ended."""
        if self.listed or self.error or not self.run.supplies:
            return
        self._record(self._worker.news() if self._worker else ())
        if abandoned := self._scheduler.abandoned if self._scheduler else []:
            self.run.why_not = f"its machine took {len(abandoned)} tests and two workers with it"
        code = self.run.finish()
        # Where nothing of the matrix was selected, the tests beside it decide.
        session.exitstatus = (code if self.run.plan.cells else 0) or session.exitstatus

    def pytest_terminal_summary(self, config: pytest.Config) -> None:
        """Under pytest's own reporter: the table, and where the reports are."""
        if self.view is None and self.run.finished:
            config.hook.pytest_harness_show(results=self.run.finished, folder=self.run.folder)

    def _narrow(self, nodeids: Sequence[str], workers: int) -> None:
        if not self._narrowed:
            self._narrowed = True
            if self.view:
                self.view(f"{workers} machines at once" if workers > 1 else "one machine at a time")
            self.run.narrow([nodeid for nodeid in nodeids if self._is_ours(nodeid)])
            if self.view and not self.run.plan.cells:
                self.error = ConfigError("no test is left by the options of pytest")
            elif self.view:
                estimate = Estimate(self.run.plan, read_times(self.run.times_path), workers)
                self.view.plan(self.run.plan, estimate)

    def _record(self, reports: Iterable[str]) -> None:
        for report in reports:
            for note in self.run.record_cell(CellReport.model_validate_json(report)):
                self._say(note)

    def _ended(self, cell: str, result: TestResult) -> None:
        self.run.record_test(cell, result)
        if self.view:
            self.view.ended(cell, result)

    def _say(self, event: Event) -> None:
        if self.view:
            self.view(event)
        elif isinstance(event, str):
            sys.stdout.write(f"{one_line(event)}\n")

    def _machine_of(self, nodeid: str) -> str:
        """The machine of an item; tests of another file stay together as if they had one."""
        return self.run.plan.cell(pair_of(nodeid)[0]).machine if self._is_ours(nodeid) else _file_of(nodeid)

    def _is_ours(self, nodeid: str) -> bool:
        file = _file_of(nodeid)
        if file not in self._ours:
            self._ours[file] = same_file(self._rootpath / file, self.run.options.matrix)
        return self._ours[file] and nodeid.count(NODE_SEPARATOR) == 2


def names_tests(matrix: Path, words: Sequence[str]) -> bool:
    """Whether ids of the matrix's tests are among pytest's arguments, beside those of `--deselect`."""
    before = ["", *words]
    return any(
        NODE_SEPARATOR in word and option != "--deselect" and same_file(Path(_file_of(word)), matrix)
        for option, word in zip(before, words, strict=False)
    )


def _file_of(nodeid: str) -> str:
    return nodeid.partition(NODE_SEPARATOR)[0]


def _of_ours(test: str, report: pytest.TestReport) -> TestResult:
    """A report without a result: the harness failed, or the worker died."""
    crash = getattr(report.longrepr, "reprcrash", None)
    words = crash.message if crash else (report.longreprtext.strip() or "no result")
    reason = one_line(words.splitlines()[-1 if crash is None else 0])
    return as_result(test, Attempt(verdict=Verdict.INFRA, reason=f"the harness failed: {reason}"))


def _children() -> list[int]:
    lists = (path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children"))
    return [int(pid) for words in lists for pid in words.split()]


def _message(error: HarnessError) -> str:
    return f"{error.message}\nhint: {error.hint}" if error.hint else error.message
