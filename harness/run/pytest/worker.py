"""The worker's half of the pytest plugin: items out of the plan, and the one machine that they run on."""

from __future__ import annotations

import contextlib
import datetime
import os
import select
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import MissingError
from harness.host.deadlines import Pace
from harness.host.progress import Event, Phase, Progress, Step, silent
from harness.kernels import configuration
from harness.plan.cells import Cell
from harness.plan.plan import Plan
from harness.results import expectations
from harness.results.model import CellReport, Splat, TestResult
from harness.results.verdict import Verdict
from harness.run import predictions
from harness.run.cell import CellRun
from harness.run.judge import Allowed
from harness.run.machines import Bench, Machine
from harness.run.run import Job
from harness.run.slot import Keeper
from harness.text import one_line

TEST_PROPERTY = "harness.test"
CELL_PROPERTY = "harness.cell"
PROGRESS_CHANNEL = "harness_progress"  # in the input of an xdist worker: an execnet channel to the controller


class VerdictError(Exception):
    """A test ended in a verdict that fails the run."""

    def __init__(self, result: TestResult) -> None:
        super().__init__(f"{result.verdict}: {result.reason}")
        self.result = result


class MatrixFile(pytest.File):
    """The matrix as a collector: its cells are those of the plan."""

    def __init__(self, *, plan: Plan, **rest: Any) -> None:
        super().__init__(**rest)
        self.plan = plan

    def collect(self) -> Iterator[CellNode]:
        """One node a cell."""
        for cell in self.plan.cells:
            yield CellNode.from_parent(self, name=cell.id, cell=cell)


class CellNode(pytest.Collector):
    """A cell; pytest sets it up before its first item and tears it down after its last."""

    def __init__(self, *, cell: Cell, **rest: Any) -> None:
        super().__init__(**rest)
        self.cell = cell

    def collect(self) -> Iterator[TestItem]:
        """One item a planned test."""
        for test in self.cell.tests:
            yield TestItem.from_parent(self, name=test)

    def setup(self) -> None:
        """Boot, deploy, load; what fails there is the verdict of the items."""
        items = (item for item in self.session.items if isinstance(item, TestItem))
        _worker(self.config).enter(self.cell, sum(item.parent.cell is self.cell for item in items))

    def teardown(self) -> None:
        """End the agent and keep the evidence."""
        _worker(self.config).leave()


class TestItem(pytest.Item):
    """A planned test."""

    __test__ = False
    parent: CellNode

    def runtest(self) -> None:
        """Run it in the guest, and say its verdict in pytest's words."""
        result = _worker(self.config).run(self.name)
        self.user_properties.append((TEST_PROPERTY, result.model_dump_json()))
        if result.verdict is Verdict.SKIP:
            pytest.skip(result.reason)
        elif result.verdict is Verdict.XFAIL:
            pytest.xfail(result.reason)
        elif result.verdict is not Verdict.PASS:
            raise VerdictError(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """A verdict is shown with what was not as expected; anything else is our fault, with its trace."""
        if not isinstance(excinfo.value, VerdictError):
            return super().repr_failure(excinfo, style)
        rows = [row for row in excinfo.value.result.assertions if not row.ok]
        lines = [f"{row.name}: expected {row.expected!r}, got {row.got!r}" for row in rows]
        return "\n".join([str(excinfo.value), *lines])

    def reportinfo(self) -> tuple[Path, None, str]:
        """The test in a headline; `::` in it would make pytest show an id that it does not accept."""
        return self.path, None, f"{self.parent.name} {self.name}"


class Worker:
    """Owns a machine; a plugin in the process that runs the items."""

    def __init__(self, job: Job, bench: Bench, progress: Progress = silent) -> None:
        self.job = job
        self.bench = bench
        self.bench.progress = self.progress = progress
        self.keeper = Keeper(self._machine, Pace(job.ends_at, job.limit_s), progress=progress)
        self._run: CellRun | None = None
        self._interrupted = False
        self._failed = False  # whether a test of the open cell did
        self._news: list[str] = []  # reports of cells that have not gone home yet
        self._begun = self._selected = 0  # tests of the open cell

    def enter(self, cell: Cell, selected: int = 0) -> None:
        """Open a cell, of which so many tests will run (default: all that are planned)."""
        self._begun, self._selected = 0, selected or len(cell.tests)
        folder = self.job.folder / "cells" / cell.id
        self._run = CellRun(
            cell,
            self.keeper,
            folder,
            allowed=lambda report: self._allowed(cell, report),
            promised=lambda kind: self._promised(cell, kind),
        )
        self._run.open()
        self._news.append(self._run.report.model_dump_json())

    def run(self, test: str) -> TestResult:
        """Run a test of the open cell; once more where it failed and nobody knew that it would."""
        assert self._run
        self._begun += 1
        if not self._run.report.cause:
            self._step(Phase.TEST, test, self._begun, self._selected)
        result = self._run.test(test)
        judged = self._as_known(result)
        if judged.verdict is Verdict.FAIL:
            judged = self._as_known(self._run.again(result))
        self._failed |= not judged.verdict.expected
        return judged

    def leave(self) -> None:
        """Close the open cell; abandon it where the run was interrupted or closing it fails."""
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
            # The next cell must not find an agent on its machine.
            run.abandon()
            raise
        finally:
            files = self.job.supplies.files.get(run.cell.machine, {})
            self._news.append(predictions.added(run.report, run.cell, files).model_dump_json())

    def _step(
        self, phase: Phase, detail: str = "", done: int = 0, total: int = 0, run: CellRun | None = None
    ) -> None:
        run = run or self._run
        assert run
        self.progress(Step(phase, detail, run.cell.machine, run.cell.id, done, total))

    def _as_known(self, result: TestResult) -> TestResult:
        assert self._run
        return expectations.apply(self.job.known, self._run.cell, self._run.report, result, _today())

    def _allowed(self, cell: Cell, report: CellReport) -> Allowed:
        def allowed(splat: Splat) -> str:
            return expectations.allowed(self.job.known, cell, report, splat, _today())

        return allowed

    def _promised(self, cell: Cell, kind: str) -> str:
        config = self.job.supplies.files.get(cell.machine, {}).get("config")
        if not config:
            return ""
        text = Path(config).read_text(encoding="utf-8", errors="replace")
        return configuration.promised(kind, text, cell.cmdline.args if cell.cmdline else "")

    def pytest_keyboard_interrupt(self) -> None:
        """From now on nothing is waited for."""
        self._interrupted = True

    def news(self) -> list[str]:
        """The reports of cells that were not sent yet, as JSON."""
        news, self._news = self._news, []
        return news

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> MatrixFile | None:
        """The matrix, in a worker of xdist's."""
        if not hasattr(parent.config, "workerinput") or not same_file(file_path, self.job.matrix):
            return None
        return MatrixFile.from_parent(parent, path=file_path, plan=self.job.plan)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """Give the machine up when the next item needs another; send home what the item's cell found."""
        outcome = yield
        if isinstance(item, TestItem) and _machine_of(item) != _machine_of(nextitem):
            self.keeper.discard()
            self.progress(Step(Phase.WAIT, machine=_machine_of(item)))
        item.user_properties += [(CELL_PROPERTY, report) for report in self.news()]
        return outcome

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Whatever ended the session: nothing stays behind, and nothing that is known is lost."""
        with contextlib.ExitStack() as stack:  # in reverse, each step also if one before it fails
            stack.callback(self.bench.close)
            stack.callback(self.keeper.discard)
            if hasattr(session.config, "workeroutput"):
                news = session.config.workeroutput.setdefault(CELL_PROPERTY, [])
                stack.callback(lambda: news.extend(self.news()))
            self.leave()

    def _machine(self, cell: Cell) -> Machine:
        if reason := self.job.supplies.missing.get(cell.machine):
            raise MissingError(reason)
        # Its files lie with the cell that boots it; cells that share it get copies.
        return self.bench.machine(cell, self.job.supplies, self.job.folder / "cells" / cell.id)


def same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file; False if there is none."""
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return False


def to_controller(channel: Any) -> Progress:
    """A `Progress` in a worker of xdist's, over an execnet channel; `from_worker` is its other end."""

    def report(event: Event, /) -> None:
        # A controller that is gone hears nothing; the worker ends for another reason.
        with contextlib.suppress(OSError):
            channel.send(event.to_wire() if isinstance(event, Step) else one_line(event))

    return report


def from_worker(progress: Progress) -> Callable[[Any], None]:
    """The callback of the channel in the controller; it is called in a thread of execnet's."""
    return lambda data: progress(data if isinstance(data, str) else Step.from_wire(data))


def interrupt_when_orphaned() -> None:
    """Give the machine up as soon as the controller has died; execnet alone would wait five seconds."""
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
