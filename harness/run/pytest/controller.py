"""The controller's half of the pytest plugin: plans, fetches, schedules, collects results and reports."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import ConfigError, HarnessError, InfrastructureError
from harness.host import deadlines
from harness.host.capacity import cpus, free_mib, workers_for
from harness.host.processes import kill_children
from harness.host.progress import Event, Phase, Progress, Step, silent
from harness.plan.cost import longest_first
from harness.plan.matrix import close_to
from harness.results.model import Attempt, CellReport, Results, TestResult
from harness.results.verdict import Verdict
from harness.run.judge import as_result
from harness.run.pytest.config import WORKER, values
from harness.run.pytest.scheduler import MachineScheduling
from harness.run.pytest.worker import (
    CELL_PROPERTY,
    CHANNEL,
    TEST_PROPERTY,
    MatrixFile,
    TestItem,
    Worker,
    from_worker,
    same_file,
)
from harness.run.run import Run, options_of
from harness.run.supplies import Supplies
from harness.run.times import Estimate, read_times
from harness.run.view import View
from harness.text import counted, one_line


def for_pytest(config: pytest.Config, path: Path) -> Controller:
    """Return the controller for `pytest matrix.yaml`; an invalid matrix ends pytest with 2."""
    options = options_of(values(config), path, ("pytest", *map(str, config.invocation_params.args)))
    options = options.model_copy(update={"output": config.invocation_params.dir / options.output})

    def write(results: Results, folder: Path) -> None:
        config.hook.pytest_harness_write(results=results, folder=folder)

    try:
        run = Run(options, config.hook.pytest_harness_bench(config=config), write)
    except HarnessError as error:
        pytest.exit(_message(error), returncode=error.exit_code)
    # SIGTERM and SIGHUP end pytest as Ctrl-C does; otherwise pytest would leave machines running.
    ending = contextlib.ExitStack()
    ending.enter_context(run.ending())
    config.add_cleanup(ending.close)
    return Controller(run, None)


NODE_SEPARATOR = "::"
PHASES = ("setup", "call", "teardown")


class _EndedError(KeyboardInterrupt):
    """Ends a session without any output of pytest."""


class Controller:
    """A run as a pytest plugin; `view` is None if pytest's own terminal reporter shows the tests."""

    def __init__(self, run: Run, view: View | None) -> None:
        self.run = run
        self.view = view
        self.error: Exception | None = None  # ended the session before anything ran
        self.listed = False  # whether the tests were only collected
        self._rootpath = Path()
        self._is_matrix: dict[str, bool] = {}  # by file, as ids name it
        self._workers: set[int] = set()  # process ids of xdist's
        self._machines: dict[object, str] = {}  # by worker: the machine of its last report
        self._scheduler: MachineScheduling | None = None
        self._worker: Worker | None = None  # without xdist
        self._narrowed = False
        self._shown: View | None = None  # without a view of our own, while the first machine is prepared

    def workers(self) -> int:
        """Return how many machines run at once; 0 for one machine in this process."""
        machines = len(self.run.plan.machines())
        return workers_for(machines, cpus(), free_mib()) if machines > 1 else 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Fetch and build what the selected tests need, before xdist starts its workers."""
        self._rootpath = session.config.rootpath
        self.listed = bool(session.config.option.collectonly)
        try:
            self._keep_named(session.config.args)
            if self.listed:
                return
            hook = session.config.hook
            if self.view:
                self.run.deliver(self.view)
            else:
                # It shows the preparation until the first machine can boot, and then only remarks.
                with hook.pytest_harness_view() as self._shown:
                    self.run.deliver(self._show)
                self._shown = None
        except Exception as error:
            if self.view:
                self.error = error
                raise _EndedError from error  # the caller prints it
            if isinstance(error, HarnessError):
                pytest.exit(_message(error), returncode=error.exit_code)
            raise

    def _keep_named(self, words: Sequence[str]) -> None:
        """If arguments of the matrix are ids of cells or tests, plan only those.

        Raises ConfigError for an id that is not in the plan.
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
        """Collect the matrix of this run, and no other file."""
        if not same_file(file_path, self.run.options.matrix):
            return None
        return MatrixFile.from_parent(parent, path=file_path, plan=self.run.plan)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without xdist, narrow the plan to the selected tests, and run them in this process."""
        config = session.config
        if self.listed and self.view:
            sys.stdout.writelines(f"{item.nodeid}\n" for item in session.items)
        if self.listed or getattr(config.option, "dist", "no") != "no":
            return
        self._narrow([item.nodeid for item in session.items if isinstance(item, TestItem)], 1)
        run = self.run
        self._worker = Worker(
            run.job(), run.bench, self.view or silent, run.turn, run.supplies_of, self._failed
        )
        config.pluginmanager.register(self._worker, WORKER)

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Send the job to a worker of xdist, with a channel for its progress."""
        node.workerinput["harness_job"] = self.run.job().model_dump_json(by_alias=True)
        self._workers.add(node.gateway._rinfo().pid)
        channel = node.gateway.newchannel()
        channel.setcallback(from_worker(self._progress_of(node), self._delivering(channel), self._failed))
        node.workerinput[CHANNEL] = channel

    def _delivering(self, channel: Any) -> Callable[[str], None]:
        def send(supplies: Supplies) -> None:
            with contextlib.suppress(OSError):  # the worker has died
                channel.send(supplies.model_dump_json())

        def deliver(machine: str) -> None:
            assert self.run.deliveries
            self.run.deliveries.whenever(machine, send)

        return deliver

    def _progress_of(self, node: Any) -> Progress:
        def report(event: Event, /) -> None:
            if isinstance(event, Step):
                self._machines[node] = event.machine
            self._show(event)

        return report

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> MachineScheduling:
        """Return the scheduler that keeps a machine on one worker."""
        order = longest_first(self.run.plan, read_times(self.run.times_path))
        assert self.run.deliveries
        self._scheduler = MachineScheduling(config, self._machine_of, order, self.run.deliveries.ready)
        return self._scheduler

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Narrow the plan to the tests that the first worker collected."""
        assert self._scheduler
        self._narrow(ids, self._scheduler.numnodes)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Record the last reports of a worker that ended, and a failure if it died."""
        self._record(getattr(node, "workeroutput", {}).get(CELL_PROPERTY, []))
        if error:
            for line in self.run.reap():
                self._show(line)
            self.run.fail(f"worker {node.gateway.id} died", InfrastructureError(str(error)))
            self._show(f"worker {node.gateway.id} died: {one_line(str(error))}")
            self._show(Step(Phase.WAIT, machine=self._machines.get(node, "")))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the result of an item, from this process or a worker."""
        if not self._is_planned(report.nodeid):
            if report.failed:
                self.run.record_foreign(report.nodeid)
            return
        properties = dict(report.user_properties)
        cell, test = _pair_of(report.nodeid)
        self._record(str(value) for name, value in report.user_properties if name == CELL_PROPERTY)
        if report.when == "call" and TEST_PROPERTY in properties:
            self._ended(cell, TestResult.model_validate_json(str(properties[TEST_PROPERTY])))
        elif report.failed:
            failure = _harness_failure(test, report)
            self._ended(cell, failure)
            if report.when in PHASES:  # xdist reports a worker that died with another word
                self.run.record_defect(failure.reason, report.longreprtext, cell)

    def pytest_internalerror(self, excrepr: object, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Record a defect of the harness, in this process or in a worker."""
        self.run.fail("the harness failed", excinfo.value, str(excrepr))

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Kill the workers, because xdist would wait ten seconds for them; their machines are reaped later.

        Other children of this process belong to plugins or other tests, and are left alone.
        """
        if not self.error and not isinstance(
            excinfo.value, pytest.Session.Interrupted | pytest.exit.Exception
        ):
            self.run.interrupt("the run was interrupted")
        # The reaper leaves the machines of a worker alone while the worker exists.
        kill_children(self._workers.intersection(_children()), deadlines.WORKER_EXIT_S)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the reports and set the exit status."""
        if self.listed or self.error or not self.run.supplies:
            return
        self._record(self._worker.take_reports() if self._worker else ())
        if abandoned := self._scheduler.abandoned if self._scheduler else []:
            lost = counted(len(abandoned), "test")
            self.run.why_not = f"two workers died on its machine, and {lost} did not run"
        code = self.run.finish()
        # If no test of the matrix was selected, the other tests decide.
        session.exitstatus = (code if self.run.plan.cells else 0) or session.exitstatus

    def pytest_terminal_summary(self, config: pytest.Config) -> None:
        """With pytest's own reporter, show the table of cells and the folder."""
        if self.view is None and self.run.finished:
            config.hook.pytest_harness_show(results=self.run.finished, folder=self.run.folder)

    def _narrow(self, nodeids: Sequence[str], workers: int) -> None:
        if not self._narrowed:
            self._narrowed = True
            if self.view and not self.run.options.part:
                self.view(f"{workers} machines at once" if workers > 1 else "one machine at a time")
            self.run.narrow([_pair_of(nodeid) for nodeid in nodeids if self._is_planned(nodeid)])
            if self.view and not self.run.plan.cells:
                self.error = ConfigError("the options of pytest select no test")
            elif self.view:
                estimate = Estimate(self.run.plan, read_times(self.run.times_path), workers)
                self.view.plan(self.run.plan, estimate)

    def _record(self, reports: Iterable[str]) -> None:
        for report in reports:
            for note in self.run.record_cell(CellReport.model_validate_json(report)):
                self._show(note)

    def _ended(self, cell: str, result: TestResult) -> None:
        self.run.record_test(cell, result)
        if self.view:
            self.view.ended(cell, result)

    def _failed(self, cell: str, result: TestResult) -> None:
        """Record the failure of a test that runs again: the run may end before the repeat does."""
        self.run.record_test(cell, result)
        if self.view:
            self.view.repeated(cell, result)

    def _show(self, event: Event, /) -> None:
        if view := self.view or self._shown:
            view(event)
        elif isinstance(event, str):
            sys.stdout.write(f"{one_line(event)}\n")

    def _machine_of(self, nodeid: str) -> str:
        """Return the machine of an item; tests of another file stay together as if they shared one."""
        return (
            self.run.plan.cell(_pair_of(nodeid)[0]).machine if self._is_planned(nodeid) else _file_of(nodeid)
        )

    def _is_planned(self, nodeid: str) -> bool:
        file = _file_of(nodeid)
        if file not in self._is_matrix:
            self._is_matrix[file] = same_file(self._rootpath / file, self.run.options.matrix)
        return self._is_matrix[file] and nodeid.count(NODE_SEPARATOR) == 2


def names_tests(matrix: Path, words: Sequence[str]) -> bool:
    """Return whether pytest's arguments have ids of the matrix, other than values of `--deselect`."""
    before = ["", *words]
    return any(
        NODE_SEPARATOR in word and option != "--deselect" and same_file(Path(_file_of(word)), matrix)
        for option, word in zip(before, words, strict=False)
    )


def _pair_of(nodeid: str) -> tuple[str, str]:
    """Return (cell id, test name) of a pytest id."""
    _, cell, test = nodeid.rsplit(NODE_SEPARATOR, 2)
    return cell, test


def _file_of(nodeid: str) -> str:
    return nodeid.partition(NODE_SEPARATOR)[0]


def _harness_failure(test: str, report: pytest.TestReport) -> TestResult:
    """Return INFRA for a report without a result: the harness failed, or the worker died."""
    crash = getattr(report.longrepr, "reprcrash", None)
    words = crash.message if crash else (report.longreprtext.strip() or "no result")
    reason = one_line(words.splitlines()[-1 if crash is None else 0])
    return as_result(test, Attempt(verdict=Verdict.INFRA, reason=f"the harness failed: {reason}"))


def _children() -> list[int]:
    lists = (path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children"))
    return [int(pid) for words in lists for pid in words.split()]


def _message(error: HarnessError) -> str:
    return f"{error.message}\nhint: {error.hint}" if error.hint else error.message
