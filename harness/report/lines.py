"""Shows a run as plain lines, for a log file or a pipe; a line at least every ten seconds."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Container
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from harness.host.progress import Event, Phase, Step
from harness.host.signals import held_back
from harness.plan.plan import Plan
from harness.report.shared import proof
from harness.report.shared.verdicts import mark
from harness.results.model import TestResult
from harness.results.verdict import Verdict
from harness.run.times import Estimate
from harness.text import counted, one_line

QUIET_S = 10.0  # without a line; then a line lists what is still running
STYLES = {0: "green", 1: "bold red", 3: "yellow", 4: "magenta"}  # by a verdict's exit code
SILENT = (
    Phase.CHECK,
    Phase.WAIT,
)  # phases without a line


class Heartbeat:
    """Calls `beat` in a thread whenever `every_s` seconds have passed without a call of `reset`."""

    def __init__(self, beat: Callable[[], object], every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._due = 0.0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self.reset()
        with held_back():
            self._thread.start()

    def reset(self) -> None:
        """Start a new interval."""
        self._due = time.monotonic() + self._every_s

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while self._waited():
            self.reset()
            self._beat()

    def _waited(self) -> bool:
        """Wait until a beat is due; return False after `stop`."""
        with self._changed:
            while not self._ended and (left_s := self._due - time.monotonic()) > 0:
                self._changed.wait(left_s)
            return not self._ended


class Lines:
    """Prints a line for each remark, each phase of a machine and each test; a `View`.

    Tests of a cell that share a cause are printed as one line with their number. `silent` are the phases
    that get no line.
    """

    def __init__(
        self,
        console: Console,
        quiet_s: float = QUIET_S,
        prefix: str = "",
        silent: Container[Phase] = SILENT,
    ) -> None:
        self.console = console
        self._prefix = prefix
        self._silent = silent
        self._lock = threading.RLock()
        self._heartbeat = Heartbeat(self.beat, quiet_s)
        self._now: dict[str, tuple[Step, float]] = {}  # by machine: its step, and the start of that phase
        self._planned: dict[str, int] = {}  # tests by cell
        self._ended: Counter[str] = Counter()  # by cell
        # By cell: a test that is not printed yet, and how many tests share its cause.
        self._held: dict[str, tuple[TestResult, int]] = {}

    def __enter__(self) -> Self:
        self._heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._heartbeat.stop()
        with self._lock:
            for cell in list(self._held):
                self._release(cell)

    def __call__(self, event: Event, /) -> None:
        """Print a remark, or a step that begins a phase."""
        with self._lock:
            if isinstance(event, Step):
                self._step(event)
            else:
                self._print(Text(one_line(event)))

    def plan(self, plan: Plan, estimate: Estimate) -> None:
        """Print the number of cells and tests, and the estimated time."""
        self._planned = {cell.id: len(cell.tests) for cell in plan.cells}
        left_s = estimate.left()
        about = f", about {duration(left_s)}" if left_s else ""
        self(f"plan: {counted(len(plan.cells), 'cell')}, {counted(len(plan.pairs()), 'test')}{about}")

    def repeated(self, cell: str, result: TestResult) -> None:
        """Print that a test failed and runs again."""
        self(f"{cell}: {result.name} failed and runs again: {result.reason}")

    def ended(self, cell: str, result: TestResult) -> None:
        """Print a test, or hold it back until the next test of the cell shows whether they share a cause."""
        with self._lock:
            self._ended[cell] += 1
            held, count = self._held.get(cell, (None, 0))
            if held and (held.verdict, held.reason) == (result.verdict, result.reason):
                self._held[cell] = held, count + 1
            else:
                self._release(cell)
                if _may_share(result):
                    self._held[cell] = result, 1
                else:
                    self._test(cell, result)
            if self._ended[cell] == self._planned.get(cell):
                self._release(cell)

    def beat(self) -> None:
        """Print what is still running."""
        with self._lock:
            fetching = self.fetching()
            running = [fetching] if fetching else []
            running += [
                f"{step.where}: {step} ({duration(time.monotonic() - since)})".removeprefix(": ")
                for step, since in self._now.values()
                if not (fetching and step.phase is Phase.FETCH)
            ]
            self._print(Text(f"still {one_line('; '.join(running), 1000)}" if running else "still at work"))

    def fetching(self) -> str:
        """Return one line for downloads that run side by side; "" for fewer than two."""
        steps = [step for step, _since in self._now.values() if step.phase is Phase.FETCH and step.machine]
        if len(steps) < 2:
            return ""
        done, total = sum(step.done for step in steps), sum(step.total for step in steps)
        return str(Step(Phase.FETCH, f"for {len(steps)} machines", done=done, total=total))

    def _step(self, step: Step) -> None:
        if step.machine:
            self._now.pop("", None)  # preparation for the whole run ends when a machine reports
        before, since = self._now.pop(step.machine, (None, 0.0))
        begins = step.begins(before)
        if step.phase is not Phase.WAIT:
            next_test = step.phase is Phase.TEST and before is not None and step.done != before.done
            self._now[step.machine] = step, time.monotonic() if begins or next_test else since
        if begins:
            self._begin(step)

    def _begin(self, step: Step) -> None:
        if step.phase in self._silent:
            return
        words = counted(step.total, "test") if step.phase is Phase.TEST else str(step)
        self._print(Text(f"{step.where}  {one_line(words)}".lstrip()))

    def _release(self, cell: str) -> None:
        """Print the test of a cell that was held back."""
        held, count = self._held.pop(cell, (None, 0))
        if held and count > 1:
            self._print(line_of_cause(cell, count, held.verdict, held.reason))
        elif held:
            self._test(cell, held)

    def _test(self, cell: str, result: TestResult) -> None:
        self._print(line_of(cell, result))
        for line in proof.about(result):
            self._print(Text(f"    {one_line(line)}"))

    def _print(self, text: Text) -> None:
        self._heartbeat.reset()
        self.console.print(Text(self._prefix) + text, soft_wrap=True)


def _may_share(result: TestResult) -> bool:
    """Return whether the next tests may have the same cause: this one was skipped or did not run."""
    ran = result.assertions or result.duration_s
    return bool(result.reason) and (not ran or result.verdict is Verdict.SKIP)


def line_of(cell: str, result: TestResult) -> Text:
    """Return the line of one test."""
    text = Text(f"{cell}  {result.name}  ").append(mark(result.verdict), STYLES[result.verdict.exit_code])
    return text.append(f"  {result.duration_s:.1f} s  {one_line(result.reason)}".rstrip())


def line_of_cause(cell: str, count: int, verdict: Verdict, reason: str) -> Text:
    """Return the line of a cause that several tests of a cell share."""
    tests = counted(count, "test")
    text = Text(f"{cell}: {tests} ").append(mark(verdict), STYLES[verdict.exit_code])
    return text.append(f": {one_line(reason)}")


def duration(seconds: float) -> str:
    """Return seconds for people, such as `45 s`, `3 min`, `1 h 5 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
