"""Shows a run on a terminal: a live table of machines below lines for what did not pass."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.host.progress import Phase, Step
from harness.host.signals import held_back
from harness.plan.plan import Plan
from harness.report.lines import STYLES, Lines, duration
from harness.report.shared import verdicts
from harness.results.model import TestResult
from harness.results.verdict import Verdict
from harness.run.times import Estimate
from harness.text import counted, one_line

_OTHER_LINES = 6  # of the terminal: the table's head, its foot, and some lines above


class LiveTable(Lines):
    """A row for each machine with its step and its verdicts; a line for each test that did not pass."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._began = time.monotonic()
        self._plan: Plan | None = None
        self._estimate: Estimate | None = None
        self._left: tuple[float | None, float] = (
            None,
            0.0,
        )  # seconds left, and when it was estimated
        self._machine: dict[str, str] = {}  # by cell
        self._verdicts: dict[str, Counter[Verdict]] = {}  # by machine
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=4,
            transient=True,
            vertical_overflow="crop",
        )

    def __enter__(self) -> Self:
        with held_back():
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._live.stop()

    def plan(self, plan: Plan, estimate: Estimate) -> None:
        """Add a row for each machine."""
        with self._lock:
            self._plan, self._estimate = plan, estimate
            self._planned = {cell.id: len(cell.tests) for cell in plan.cells}
            self._machine = {cell.id: cell.machine for cell in plan.cells}
            self._estimate_left()

    def ended(self, cell: str, result: TestResult) -> None:
        """Count a test, and print it if it did not pass."""
        with self._lock:
            self._verdicts.setdefault(self._machine.get(cell, ""), Counter())[result.verdict] += 1
            if self._estimate:
                self._estimate.end(cell, result.name)
            self._estimate_left()
            super().ended(cell, result)

    def _estimate_left(self) -> None:
        self._left = (self._estimate.left() if self._estimate else None), time.monotonic()

    def _begin(self, step: Step) -> None:
        """Print no line: the table shows phases."""
        if step.phase is Phase.BOOT and self._estimate:
            self._estimate.begin(step.machine)
            self._estimate_left()

    def _test(self, cell: str, result: TestResult) -> None:
        if result.verdict is not Verdict.PASS:
            super()._test(cell, result)

    def render(self) -> Group:
        """Return what the terminal shows now."""
        with self._lock:
            planned = self._plan.machines() if self._plan else {}
            names = list(dict.fromkeys([*self._now, *planned]))
            room = max(1, self.console.height - _OTHER_LINES)
            table = Table(box=None, pad_edge=False)
            for head in ("machine", "now", "tests", "verdicts"):
                table.add_column(head, no_wrap=True, overflow="ellipsis")
            for name in names[:room]:
                total = sum(len(cell.tests) for cell in planned.get(name, []))
                table.add_row(*self._row(name, total))
            more = [Text(f"and {len(names) - room} more")] if len(names) > room else []
            return Group(table, *more, self._foot())

    def _row(self, machine: str, total: int) -> tuple[Text, ...]:
        found = self._verdicts.get(machine, Counter())
        done = sum(found.values())
        now = Text("done" if total and done == total else "waiting", "dim")
        if machine in self._now:
            step, since = self._now[machine]
            head = f"{step.cell}: " if step.cell else ""
            seconds = "" if step.phase is Phase.TEST else f" ({duration(time.monotonic() - since)})"
            now = Text(one_line(f"{head}{step}{seconds}"))
        return Text(machine), now, Text(f"{done}/{total}" if total else ""), _counts(found)

    def _foot(self) -> Text:
        """Return the line of progress and estimated time."""
        found = sum(self._verdicts.values(), Counter[Verdict]())
        fetching = self.fetching()
        text = Text(f"{fetching}; " if fetching else "")
        if self._planned:
            text.append(f"{sum(found.values())} of {counted(sum(self._planned.values()), 'test')}, ")
        if found:
            text.append_text(_counts(found)).append(", ")
        text.append(f"{duration(time.monotonic() - self._began)} so far")
        left_s, when = self._left
        if left_s is not None:
            text.append(f", about {duration(max(0.0, left_s - (time.monotonic() - when)))} left")
        return text


def _counts(ended: Counter[Verdict]) -> Text:
    """Return counts by verdict, such as `93 PASS, 4 SKIP`."""
    parts = verdicts.counts(ended.elements())
    return Text(", ").join(Text(f"{count} {verdict}", STYLES[verdict.exit_code]) for verdict, count in parts)
