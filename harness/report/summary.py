"""Renders summary.md: the overview of a run, which GitHub shows as a job summary."""

from __future__ import annotations

from harness.report import history_text
from harness.report.history import History
from harness.report.shared.verdicts import headline, is_worse_than_tests, mark, tally
from harness.report.shared.words import anchor
from harness.results.model import CellResult, Results
from harness.results.verdict import Verdict
from harness.text import counted, markdown

LIMIT = 1_000_000  # bytes; GitHub drops a job summary of more than 1 MiB
COLUMNS = 60  # cells in one table
ROWS = 200  # of one table or list


def render(results: Results, artifact: str = "", past: History | None = None) -> str:
    """Return the text of summary.md; with `past` how each test that is not PASS ended in the last runs.

    Cells link to report.html beside it. With `artifact`, the address of an archive of the folder, only the
    archive is linked, because a job summary is read without the folder.
    """
    lines = [*_head(results, artifact), "", *_table(results, linked=not artifact), ""]
    lines += [*_troubles(results, past or History(), linked=not artifact), *_phases(results)]
    return cut("\n".join(lines) + "\n", LIMIT)


def cut(text: str, limit: int) -> str:
    """Return `text`, cut at a line to at most `limit` bytes, with a last line that says so."""
    if len(text.encode()) <= limit:
        return text
    end = "\n… cut here; results.json has the rest\n"
    kept = text.encode()[: limit - len(end.encode())].decode("utf-8", errors="ignore")
    return kept[: kept.rfind("\n")] + end


def more(left_out: int, what: str) -> list[str]:
    """Return a line about rows or cells that a table leaves out; none if it has all."""
    return [f"\n… and {left_out} more {what}; report.html has them all"] if left_out > 0 else []


def _head(results: Results, artifact: str) -> list[str]:
    run = results.run
    archive = [f"\n[Report, consoles and results]({artifact})"] if artifact else []
    counts = ", ".join(f"{count} {verdict}" for verdict, count in results.totals.items())
    cpus = sum(host.cpus for host in run.hosts) or run.host.cpus
    on = f" on {counted(len(run.hosts), 'host')}" if run.hosts else ""
    return [
        f"## {headline(results)}",
        "",
        f"{counted(len(results.cells), 'cell')}; tests: {counts or 'none'}. Run {markdown(run.id)}, "
        f"{run.duration_s:.0f} s, {markdown(run.accelerator)}, {cpus} CPUs{on}, exit {run.exit_code}.",
        *(f"\n{markdown(note)}" for note in run.notes),
        *archive,
    ]


def cell_link(cell: CellResult, *, linked: bool) -> str:
    """Return a cell's name, as a link to its panel in report.html if `linked`."""
    name = markdown(cell.id)
    return f"[{name}](report.html#{anchor(cell.id)})" if linked else name


def _table(results: Results, *, linked: bool) -> list[str]:
    cells = _shown(results)
    names = list(dict.fromkeys(test.name for cell in cells for test in cell.tests))
    head = ["test", *(cell_link(cell, linked=linked) for cell in cells)]
    rows = [["kernel", *(cell.kernel.release or "unresolved" for cell in cells)]]
    rows += [[name, *(_verdict_of(cell, name) for cell in cells)] for name in names[:ROWS]]
    rows.append(["**all**", *(_all_of(cell) for cell in cells)])
    written = [[word if word == "**all**" else markdown(word) for word in row] for row in rows]
    written[:0] = [head, ["---"] * len(head)]
    lines = [f"| {' | '.join(row)} |" for row in written]
    return [*lines, *more(len(names) - ROWS, "tests"), *more(len(results.cells) - len(cells), "cells")]


def _shown(results: Results) -> list[CellResult]:
    """Return the cells that fit into a table, in their order: the worst if there are too many."""
    worst_first = sorted(results.cells, key=lambda cell: -cell.verdict.badness)
    chosen = {cell.id for cell in worst_first[:COLUMNS]}
    return [cell for cell in results.cells if cell.id in chosen]


def _all_of(cell: CellResult) -> str:
    """Return a cell's verdict with the counts of its tests, so that one SKIP does not hide many PASS."""
    alike = len({test.verdict for test in cell.tests} | {cell.verdict}) == 1
    return mark(cell.verdict) if alike else f"{mark(cell.verdict)}: {tally(cell)}"


def _verdict_of(cell: CellResult, name: str) -> str:
    found = next((test.verdict for test in cell.tests if test.name == name), None)
    return mark(found) if found else "not planned"


def _troubles(results: Results, past: History, *, linked: bool) -> list[str]:
    rows = [("", cell, cell.verdict, cell.reason) for cell in results.cells if is_worse_than_tests(cell)]
    rows += [
        (test.name, cell, test.verdict, test.reason)
        for cell in results.cells
        for test in cell.tests
        if test.verdict is not Verdict.PASS
    ]
    lines = [
        f"- {mark(verdict)} {cell_link(cell, linked=linked)}{f' {markdown(name)}' if name else ''}: "
        f"{markdown(reason)}{_before(past, cell, name)}"
        for name, cell, verdict, reason in sorted(rows, key=lambda row: -row[2].badness)[:ROWS]
    ]
    return ["### Not PASS", "", *lines, *more(len(rows) - ROWS, "that are not PASS"), ""] if lines else []


def _before(past: History, cell: CellResult, test: str) -> str:
    line = history_text.line(past, cell.id, test) if test else ""
    return f" ({markdown(line)})" if line else ""


def _phases(results: Results) -> list[str]:
    head = ["| cell | start | boot | deploy | load | tests |", "|---|---|---:|---:|---:|---:|"]
    rows = [
        f"| {markdown(cell.id)} | {spent.start} | {spent.boot_s:.1f} s | {spent.deploy_s:.1f} s "
        f"| {spent.load_s:.1f} s | {spent.tests_s:.1f} s |"
        for cell in _shown(results)
        for spent in [cell.phases]
    ]
    return ["### Seconds", "", *head, *rows, *more(len(results.cells) - COLUMNS, "cells")]
