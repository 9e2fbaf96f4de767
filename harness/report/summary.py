"""summary.md: what a person reads first, as GitHub shows it in a job summary."""

from __future__ import annotations

from harness.report.text import markdown
from harness.results import CellResult, Results
from harness.verdict import Verdict, worst

LIMIT = 1 << 20  # bytes; more than GitHub takes is cut by us, with a line that says so
MARKS = {0: "✓", 1: "✗", 3: "⚠", 4: "…"}  # by exit code: never a colour alone
SENTENCES = {
    0: "Everything as expected.",
    1: "The product failed.",
    3: "Only the infrastructure failed: nothing is known about the product there.",
    4: "Incomplete: something that was planned has no result.",
}


def render(results: Results) -> str:
    """The text of summary.md."""
    lines = [*_head(results), "", *_table(results), "", *_troubles(results), *_phases(results)]
    return cut("\n".join(lines) + "\n", LIMIT)


def cut(text: str, limit: int) -> str:
    """`text`, or as many of its lines as fit `limit` bytes with a line that says that there is more."""
    if len(text.encode()) <= limit:
        return text
    more = "\n… cut here; results.json has the rest\n"
    kept = text.encode()[: limit - len(more.encode())].decode("utf-8", errors="ignore")
    return kept[: kept.rfind("\n")] + more


def mark(verdict: Verdict) -> str:
    """A verdict with the sign of its class."""
    return f"{MARKS[verdict.exit_code]} {verdict}"


def _head(results: Results) -> list[str]:
    run = results.run
    counts = ", ".join(f"{count} {verdict}" for verdict, count in results.totals.items())
    return [
        f"## {MARKS[run.exit_code]} {SENTENCES[run.exit_code]}",
        "",
        f"{len(results.cells)} cells; tests: {counts or 'none'}. Run {markdown(run.id)}, "
        f"{run.duration_s:.0f} s, {markdown(run.accelerator)}, {run.host.cpus} CPUs, exit {run.exit_code}.",
        *(f"\n{markdown(note)}" for note in run.notes),
    ]


def _table(results: Results) -> list[str]:
    names = list(dict.fromkeys(test.name for cell in results.cells for test in cell.tests))
    rows = [["test", *(cell.id for cell in results.cells)]]
    rows.append(["kernel", *(cell.kernel.release or "unresolved" for cell in results.cells)])
    rows += [[name, *(_verdict_of(cell, name) for cell in results.cells)] for name in names]
    rows.append(["**all**", *(_all_of(cell) for cell in results.cells)])
    written = [[word if word == "**all**" else markdown(word) for word in row] for row in rows]
    written.insert(1, ["---"] * len(rows[0]))
    return [f"| {' | '.join(row)} |" for row in written]


def tally(cell: CellResult) -> str:
    """How many tests of a cell ended in what, such as `7 PASS, 1 SKIP`."""
    found = [test.verdict for test in cell.tests]
    told = sorted(set(found), key=lambda verdict: (verdict is not Verdict.PASS, verdict.badness))
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in told)


def own_trouble(cell: CellResult) -> bool:
    """Whether something went wrong in a cell that none of its tests shows."""
    tests = [test.verdict for test in cell.tests]
    return bool(tests) and cell.verdict.badness > worst(tests).badness


def _all_of(cell: CellResult) -> str:
    """A cell's verdict, with what it is the worst of: one SKIP among many PASS is no bad cell."""
    alike = len({test.verdict for test in cell.tests} | {cell.verdict}) == 1
    return mark(cell.verdict) if alike else f"{mark(cell.verdict)}: {tally(cell)}"


def _verdict_of(cell: CellResult, name: str) -> str:
    found = next((test.verdict for test in cell.tests if test.name == name), None)
    return mark(found) if found else "not planned"


def _troubles(results: Results) -> list[str]:
    lines = [
        f"- {mark(cell.verdict)} `{cell.id}`: {markdown(cell.reason)}"
        for cell in results.cells
        if own_trouble(cell)
    ]
    lines += [
        f"- {mark(test.verdict)} `{cell.id}` {markdown(test.name)}: {markdown(test.reason)}"
        for cell in results.cells
        for test in cell.tests
        if test.verdict is not Verdict.PASS
    ]
    return ["### Not PASS", "", *lines, ""] if lines else []


def _phases(results: Results) -> list[str]:
    head = ["| cell | start | boot | deploy | load | tests |", "|---|---|---:|---:|---:|---:|"]
    rows = [
        f"| {cell.id} | {spent.start} | {spent.boot_s:.1f} s | {spent.deploy_s:.1f} s | {spent.load_s:.1f} s "
        f"| {spent.tests_s:.1f} s |"
        for cell in results.cells
        for spent in [cell.phases]
    ]
    return ["### Seconds", "", *head, *rows]
