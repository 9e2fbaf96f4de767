"""The worker's half of the pytest plugin: the items of the plan, and the machine on which they run."""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import MissingError
from harness.host.deadlines import Pace
from harness.host.progress import Event, Phase, Progress, Step, silent
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results import expectations
from harness.results.model import CellReport, Splat, TestResult
from harness.results.verdict import Verdict
from harness.run import predictions
from harness.run.cell import CellRun
from harness.run.job import Job
from harness.run.judge import Allowed
from harness.run.machines import Bench, Machine
from harness.run.slot import Slot
from harness.run.supplies import Supplies
from harness.text import one_line

TEST_PROPERTY = "harness.test"
CELL_PROPERTY = "harness.cell"
CHANNEL = "harness_channel"  # in the input of an xdist worker: an execnet channel to the controller
WANTED = "supplies of"  # key of a request for the supplies of a machine
FAILED = "failed in"  # key of the cell of a result that may change


Failed = Callable[[str, TestResult], object]
"""Receives a cell and the failure of a test that runs again."""


class VerdictError(Exception):
    """A test ended in a verdict that fails the run."""

    def __init__(self, result: TestResult) -> None:
        super().__init__(f"{result.verdict}: {result.reason}")
        self.result = result


class MatrixFile(pytest.File):
    """Collects the matrix: a node for each cell of the plan."""

    def __init__(self, *, plan: Plan, **rest: Any) -> None:
        super().__init__(**rest)
        self.plan = plan

    def collect(self) -> Iterator[CellNode]:
        """Yield a node for each cell."""
        for cell in self.plan.cells:
            yield CellNode.from_parent(self, name=cell.id, cell=cell)


class CellNode(pytest.Collector):
    """A cell; pytest sets it up before its first item and tears it down after its last."""

    def __init__(self, *, cell: Cell, **rest: Any) -> None:
        super().__init__(**rest)
        self.cell = cell

    def collect(self) -> Iterator[TestItem]:
        """Yield an item for each planned test."""
        for test in self.cell.tests:
            yield TestItem.from_parent(self, name=test)

    def setup(self) -> None:
        """Boot, deploy and load; a failure becomes the verdict of the items."""
        items = (item for item in self.session.items if isinstance(item, TestItem))
        _worker(self.config).enter(self.cell, sum(item.parent.cell is self.cell for item in items))

    def teardown(self) -> None:
        """End the agent and collect the evidence."""
        _worker(self.config).leave()


class TestItem(pytest.Item):
    """A planned test."""

    __test__ = False
    parent: CellNode

    def runtest(self) -> None:
        """Run the test in the guest, and raise pytest's outcome for its verdict."""
        result = _worker(self.config).run(self.name)
        self.user_properties.append((TEST_PROPERTY, result.model_dump_json()))
        if result.verdict is Verdict.SKIP:
            pytest.skip(result.reason)
        elif result.verdict is Verdict.XFAIL:
            pytest.xfail(result.reason)
        elif result.verdict is not Verdict.PASS:
            raise VerdictError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Show a verdict with its failed assertions, and any other error with its traceback."""
        if not isinstance(excinfo.value, VerdictError):
            return super().repr_failure(excinfo, style)
        rows = [row for row in excinfo.value.result.assertions if not row.ok]
        lines = [f"{row.name}: expected {row.expected!r}, got {row.got!r}" for row in rows]
        return "\n".join([str(excinfo.value), *lines])

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return the headline; with `::` in it pytest would show an id that it does not accept."""
        return self.path, None, f"{self.parent.name} {self.name}"


class Worker:
    """Runs the items of cells on one machine at a time; a pytest plugin in the process of the items."""

    def __init__(
        self,
        job: Job,
        bench: Bench,
        progress: Progress = silent,
        turn: Callable[[], object] = lambda: None,
        supplies_of: Callable[[str], Supplies] | None = None,
        failed: Failed = lambda _cell, _result: None,
    ) -> None:
        self.job = job
        self._report_failed = failed
        self._turn = turn
        self._supplies_of = supplies_of  # waits for those of a machine; None if all are in the job
        self.bench = bench
        self.bench.progress = self.progress = progress
        self.slot = Slot(self._machine, Pace(job.ends_at, job.limit_s), progress=progress, wait=self._wait)
        self._run: CellRun | None = None
        self._interrupted = False
        self._failed = False  # whether a test of the open cell failed
        self._unsent: list[str] = []  # reports of cells, for the controller
        self._begun = self._selected = 0  # tests of the open cell

    def enter(self, cell: Cell, selected: int = 0) -> None:
        """Open a cell; `selected` of its tests will run (default: all planned ones)."""
        self._begun, self._selected = 0, selected or len(cell.tests)
        folder = self.job.folder / "cells" / cell.id
        self._run = CellRun(
            cell,
            self.slot,
            folder,
            allowed=lambda report: self._allowed(cell, report),
            promised=lambda kind: predictions.promised(kind, cell, self._files(cell)),
            contradicted=lambda result, report: predictions.contradicted(
                result, report, cell, self._files(cell)
            ),
            host=self.job.host,
        )
        self._run.open()
        self._unsent.append(self._run.report.model_dump_json())

    def run(self, test: str) -> TestResult:
        """Run a test of the open cell, and again if it failed unexpectedly."""
        assert self._run
        self._begun += 1
        if not self._run.report.cause:
            self._step(Phase.TEST, test, self._begun, self._selected)
        result = self._run.test(test)
        judged = self._as_known(result)
        if judged.verdict is Verdict.FAIL:
            # Whatever ends this process meanwhile must not hide that the test failed.
            self._report_failed(self._run.cell.id, judged)
            judged = self._as_known(self._run.again(result))
        self._failed |= not judged.verdict.expected
        return judged

    def leave(self) -> None:
        """Close the open cell; abandon it if the run was interrupted or closing fails."""
        run, self._run = self._run, None
        if run is None:
            return
        self._step(Phase.CLOSE, run=run)
        keep, self._failed = self.job.keep_on_fail and self._failed, False
        try:
            if self._interrupted:
                run.abandon()
            else:
                run.close(keep=keep)
        except BaseException:
            # The next cell must not find this cell's agent on its machine.
            run.abandon()
            raise
        finally:
            report = predictions.added(run.report, run.cell, self._files(run.cell))
            self._unsent.append(report.model_dump_json())

    def _step(
        self, phase: Phase, detail: str = "", done: int = 0, total: int = 0, run: CellRun | None = None
    ) -> None:
        run = run or self._run
        assert run
        self.progress(Step(phase, detail, run.cell.machine, run.cell.id, done, total))

    def _as_known(self, result: TestResult) -> TestResult:
        assert self._run
        cell, report, ran = self._run.cell, self._run.report, self._run.ran(result.name)
        return expectations.apply(self.job.known, cell, report, result, _today(), ran=ran)

    def _allowed(self, cell: Cell, report: CellReport) -> Allowed:
        def allowed(splat: Splat) -> str:
            return expectations.allowed(self.job.known, cell, report, splat, _today())

        return allowed

    def _files(self, cell: Cell) -> Mapping[str, str]:
        return self.job.supplies.files.get(cell.machine, {})

    def pytest_keyboard_interrupt(self) -> None:
        """Wait for nothing from now on."""
        self._interrupted = True

    def take_reports(self) -> list[str]:
        """The reports of cells that were not sent yet, as JSON."""
        news, self._unsent = self._unsent, []
        return news

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> MatrixFile | None:
        """Collect the matrix in a worker of xdist."""
        if not hasattr(parent.config, "workerinput") or not same_file(file_path, self.job.matrix):
            return None
        return MatrixFile.from_parent(parent, path=file_path, plan=self.job.plan)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, object, object]:
        """Send each result with one report, and keep none: a large run has hundreds of megabytes."""
        report = yield
        if isinstance(item, TestItem):
            item.user_properties.clear()  # the report has a copy
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Discard the machine if the next item needs another; send the reports of cells."""
        outcome = yield
        if isinstance(item, TestItem) and _machine_of(item) != _machine_of(nextitem):
            self.slot.discard()
            self.progress(Step(Phase.WAIT, machine=_machine_of(item)))
        item.user_properties += [(CELL_PROPERTY, report) for report in self.take_reports()]
        return outcome

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close the cell, destroy the machine, and send the last reports, however the session ended."""
        with contextlib.ExitStack() as stack:  # in reverse, each step also if one before it fails
            stack.callback(self.bench.close)
            stack.callback(self.slot.discard)
            if hasattr(session.config, "workeroutput"):
                sent = session.config.workeroutput.setdefault(CELL_PROPERTY, [])
                stack.callback(lambda: sent.extend(self.take_reports()))
            self.leave()

    def _wait(self, cell: Cell) -> None:
        """Wait until the machine of a cell may boot: for its files, then for its turn."""
        if self._supplies_of:
            found = self._supplies_of(cell.machine)
            self.job = self.job.model_copy(update={"supplies": self.job.supplies.joined(found)})
        self._turn()

    def _machine(self, cell: Cell) -> Machine:
        if reason := self.job.supplies.missing.get(cell.machine):
            raise MissingError(reason)
        # The machine's files are in the folder of the cell that boots it; cells that share it get copies.
        return self.bench.machine(cell, self.job.supplies, self.job.folder / "cells" / cell.id)


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths name the same existing file."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def to_controller(channel: Any) -> Progress:
    """Return a `Progress` that sends events over an execnet channel; `from_worker` receives them."""

    def report(event: Event, /) -> None:
        # If the controller died, `interrupt_when_orphaned` ends this worker.
        with contextlib.suppress(OSError):
            channel.send(event.to_wire() if isinstance(event, Step) else one_line(event))

    return report


def failures_to_controller(channel: Any) -> Failed:
    """Return a function that sends a failure before the test runs again; `from_worker` receives it."""

    def failed(cell: str, result: TestResult) -> None:
        with contextlib.suppress(OSError):  # as above
            channel.send({FAILED: cell, "result": result.model_dump_json()})

    return failed


def supplies_from_controller(channel: Any) -> Callable[[str], Supplies]:
    """Return a function that asks the controller for the supplies of a machine and waits for the answer."""

    def ask(machine: str) -> Supplies:
        channel.send({WANTED: machine})
        return Supplies.model_validate_json(channel.receive())

    return ask


def from_worker(progress: Progress, deliver: Callable[[str], None], failed: Failed) -> Callable[[Any], None]:
    """Return the controller's callback of the channel; execnet calls it in its own thread.

    `deliver` is called with the machine whose supplies the worker asks for.
    """

    def receive(data: Any) -> None:
        if isinstance(data, dict) and FAILED in data:
            failed(data[FAILED], TestResult.model_validate_json(data["result"]))
        elif isinstance(data, dict):
            deliver(data[WANTED])
        else:
            progress(data if isinstance(data, str) else Step.from_wire(data))

    return receive


def interrupt_when_orphaned() -> None:
    """Interrupt this worker as soon as the controller dies; execnet alone would wait five seconds."""
    parent = os.pidfd_open(os.getppid())

    def wait() -> None:
        select.select([parent], [], [])
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, name="orphaned", daemon=True).start()


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _worker(config: pytest.Config) -> Worker:
    worker = config.pluginmanager.get_plugin("harness-worker")
    assert isinstance(worker, Worker)
    return worker


def _machine_of(item: pytest.Item | None) -> str:
    return item.parent.cell.machine if isinstance(item, TestItem) else ""
