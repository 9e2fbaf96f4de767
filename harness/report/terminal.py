"""What a run says while it runs: a live table on a terminal, else plain lines; and the table at its end."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from harness.plan.plan import Plan
from harness.report.page import proof
from harness.report.summary import SENTENCES, mark, own_trouble, tally
from harness.results.model import CellResult, Results, TestResult
from harness.results.verdict import Verdict
from harness.text import one_line

_STYLES = {0: "green", 1: "bold red", 3: "yellow", 4: "magenta"}

# What the last table tells, by the least width of the terminal: a cell's name has its kernel's in it.
_COLUMNS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (100, ("kernel", "cell", "verdict", "boot", "load", "tests", "ended in")),
    (64, ("cell", "verdict", "boot", "load", "tests", "ended in")),
    (0, ("cell", "verdict", "ended in")),
)


class Progress(Protocol):
    """Hears what happens in a run."""

    def say(self, line: str) -> None:
        """Something worth a line."""

    def plan(self, plan: Plan) -> None:
        """What will run; called again when it is narrowed."""

    def started(self, cell: str, test: str) -> None:
        """A test begins, or the boot that its cell needs."""

    def ended(self, cell: str, result: TestResult) -> None:
        """A test has its verdict."""


class Lines:
    """Plain lines, for a log file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._last = ("", "")  # cell and reason: what a whole cell shares is said once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def say(self, line: str) -> None:
        """Print `line` as it is."""
        self.console.print(Text(one_line(line)), soft_wrap=True)

    def plan(self, plan: Plan) -> None:
        """Say how much there is to do."""
        self.say(f"plan: {len(plan.cells)} cells, {len(plan.pairs())} tests")

    def started(self, cell: str, test: str) -> None:
        """A log needs only what ended."""

    def ended(self, cell: str, result: TestResult) -> None:
        """One line a test; a run of tests that share a reason has one."""
        if not result.reason or (cell, result.reason) != self._last:
            self.console.print(line_of(cell, result), soft_wrap=True)
            for line in proof.about(result):
                self.console.print(Text(f"    {one_line(line)}"), soft_wrap=True)
        self._last = (cell, result.reason)


class LiveTable(Lines):
    """A table of cells that is kept up to date; tests that are not PASS stay above it as lines."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._planned: dict[str, int] = {}
        self._ended: dict[str, list[Verdict]] = {}
        self._now: dict[str, str] = {}
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def plan(self, plan: Plan) -> None:
        """Make a row for each cell."""
        self._planned = {cell.id: len(cell.tests) for cell in plan.cells}

    def started(self, cell: str, test: str) -> None:
        """Show what runs; a cell's first test waits for the machine."""
        self._now[cell] = test if cell in self._ended else "boot, load"

    def ended(self, cell: str, result: TestResult) -> None:
        """Count it; keep a line of it where it is not PASS."""
        self._ended.setdefault(cell, []).append(result.verdict)
        self._now[cell] = ""
        if result.verdict is not Verdict.PASS:
            super().ended(cell, result)

    def _table(self) -> Table:
        table = Table("cell", "tests", "now", box=None, pad_edge=False)
        for cell, count in self._planned.items():
            found = self._ended.get(cell, [])
            bad = sum(verdict is not Verdict.PASS for verdict in found)
            done = f"{len(found)}/{count}" + (f" ({bad} not PASS)" if bad else "")
            table.add_row(cell, Text(done, "red" if bad else ""), self._now.get(cell, ""))
        return table


def progress_on(console: Console) -> Lines:
    """A live table where there is a terminal, else plain lines."""
    return LiveTable(console) if console.is_terminal else Lines(console)


def line_of(cell: str, result: TestResult) -> Text:
    """One test as one line."""
    text = Text(f"{cell}  {result.name}  ").append(mark(result.verdict), _STYLES[result.verdict.exit_code])
    return text.append(f"  {result.duration_s:.1f} s  {one_line(result.reason)}".rstrip())


def _words_of(cell: CellResult) -> dict[str, Text]:
    """What a row of the last table may tell of a cell."""
    spent = cell.phases
    return {
        "kernel": Text(one_line(cell.kernel.release or cell.kernel.requested)),
        "cell": Text(cell.id),
        "verdict": Text(mark(cell.verdict), _STYLES[cell.verdict.exit_code]),
        "boot": Text(f"{spent.boot_s:.1f} s"),
        "load": Text(f"{spent.load_s:.1f} s"),
        "tests": Text(f"{spent.tests_s:.1f} s"),
        "ended in": Text(tally(cell)),
    }


def print_results(console: Console, results: Results, where: str) -> None:
    """The table of tests and cells, and one line that says what it means."""
    columns = next(names for least, names in _COLUMNS if console.width >= least)
    table = Table(box=None, pad_edge=False)
    for head in columns:
        table.add_column(head, overflow="fold")
    for cell in results.cells:
        words = _words_of(cell)
        table.add_row(*(words[name] for name in columns))
    console.print(table)
    for cell in filter(own_trouble, results.cells):
        console.print(Text(f"{cell.id}: {mark(cell.verdict)}: {one_line(cell.reason)}"), soft_wrap=True)
    for note in results.run.notes:
        console.print(Text(one_line(note)), soft_wrap=True)
    run = results.run
    sentence = (
        f"{SENTENCES[run.exit_code]} {run.duration_s:.1f} s, {run.accelerator}, exit {run.exit_code}; {where}"
    )
    console.print(Text(sentence, _STYLES[run.exit_code]), soft_wrap=True)
