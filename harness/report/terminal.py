"""Prints the end of a run: a table of cells, the causes of failures, and one line with the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from harness.report.lines import STYLES, Lines, line_of_cause
from harness.report.live import LiveTable
from harness.report.shared.verdicts import is_worse_than_tests, mark, sentence, tally
from harness.results.model import CellResult, Results
from harness.results.verdict import Verdict
from harness.text import one_line, visible

_ENDLESS = 10_000  # characters: the width of an output that is no terminal

# The columns by the minimum width of the terminal; a cell's name contains its kernel's.
_COLUMNS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (100, ("kernel", "cell", "verdict", "boot", "load", "tests", "ended in")),
    (64, ("cell", "verdict", "boot", "load", "tests", "ended in")),
    (0, ("cell", "verdict", "ended in")),
)


def view_on(console: Console) -> Lines:
    """Return a live table for a terminal, else plain lines."""
    return LiveTable(console) if console.is_interactive and console.file.isatty() else Lines(console)


def print_table(console: Console, table: Table) -> None:
    """Print a table; without a terminal, nothing is folded or cut."""
    if console.is_terminal:
        console.print(table)
        return
    endless = console.options.update(width=_ENDLESS, height=None)
    width = Measurement.get(console, endless, table).maximum
    lines = console.render_lines(table, endless.update(width=width), pad=False)
    for line in lines:
        console.print(Text("".join(segment.text for segment in line).rstrip()), soft_wrap=True)


def _words_of(cell: CellResult) -> dict[str, Text]:
    """Return the text of each column for a cell."""
    spent = cell.phases
    return {
        "kernel": Text(one_line(cell.kernel.release or cell.kernel.requested)),
        "cell": Text(cell.id),
        "verdict": Text(mark(cell.verdict), STYLES[cell.verdict.exit_code]),
        "boot": Text(f"{spent.boot_s:.1f} s"),
        "load": Text(f"{spent.load_s:.1f} s"),
        "tests": Text(f"{spent.tests_s:.1f} s"),
        "ended in": Text(tally(cell)),
    }


def _causes(cell: CellResult) -> Iterator[Text]:
    """Yield a line for each cause that several tests of a cell share; for a SKIP only if all tests do."""
    found = Counter((test.verdict, test.reason) for test in cell.tests if test.reason)
    for (verdict, reason), count in found.items():
        if count == len(cell.tests) or (count > 1 and verdict is not Verdict.SKIP):
            yield line_of_cause(cell.id, count, verdict, reason)


def print_results(console: Console, results: Results, where: str) -> None:
    """Print the table of cells, shared causes, notes, and one line with the result; `where` is the folder."""
    width = console.width if console.is_terminal else _ENDLESS
    columns = next(names for least, names in _COLUMNS if width >= least)
    table = Table(box=None, pad_edge=False)
    for head in columns:
        table.add_column(head, overflow="fold")
    for cell in results.cells:
        words = _words_of(cell)
        table.add_row(*(words[name] for name in columns))
    print_table(console, table)
    for line in (line for cell in results.cells for line in _causes(cell)):
        console.print(line, soft_wrap=True)
    for cell in filter(is_worse_than_tests, results.cells):
        console.print(Text(f"{cell.id}: {mark(cell.verdict)}: {one_line(cell.reason)}"), soft_wrap=True)
    for note in results.run.notes:
        console.print(Text(one_line(note)), soft_wrap=True)
    run = results.run
    ended = f"{sentence(results)} {run.duration_s:.1f} s, {run.accelerator}, exit {run.exit_code}; "
    ended += visible(where)
    console.print(Text(ended, STYLES.get(run.exit_code, "bold red")), soft_wrap=True)
