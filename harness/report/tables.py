"""The tables of docs/tables.md that come from a run: kernels, hook sets, doors, programs, and every scenario.

What stands between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is made from facts and from the catalogue;
the rest of the page is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from agent.selftest import catalogue
from harness.report.facts import CellFacts, RunFacts
from harness.report.page import hooks
from harness.report.page.matrix import counts as tally
from harness.report.summary import mark
from harness.results.verdict import Verdict
from harness.text import markdown

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
DOORS = "doors"  # the family of tests that go by every system call


def render(page: str, facts: RunFacts) -> str:
    """The page with the sections that are made here made anew; sections of others stay as they are."""

    def made(match: re.Match[str]) -> str:
        make = SECTIONS.get(match[2])
        return match[1] + "\n".join(make(facts)) + "\n" + match[3] if make else match[0]

    return _SECTION.sub(made, page)


def run(facts: RunFacts) -> Iterator[str]:
    """Which run the tables tell of."""
    counts = tally(verdict for cell in facts.cells for verdict in facts.verdicts(cell))
    took = f"{facts.duration_s / 60:.0f} min on {facts.cpus} CPUs with {markdown(facts.accelerator)}"
    run = f"Run {markdown(facts.id)}, {markdown(facts.started[:10])}: {len(facts.cells)} cells"
    yield f"{run}, {_counted(counts)}; {took}, exit {facts.exit_code}."


def kernels(facts: RunFacts) -> Iterator[str]:
    """Every kernel: what its series resolved to, and how it booted."""
    yield from _head("kernel", "release", "package", "arch", "boot", "hook types that fire", "that do not")
    for kernel, arch in dict.fromkeys((cell.kernel, cell.arch) for cell in facts.cells):
        here = [cell for cell in facts.cells if (cell.kernel, cell.arch) == (kernel, arch)]
        best = max(here, key=lambda cell: (bool(cell.release), bool(cell.capabilities), cell.boot_s))
        boot = f"{best.boot_s} s, {best.start}" if best.boot_s else ""
        seen = {kind: state for kind, state in best.capabilities.items() if kind != "skips"}
        fires = ", ".join(kind for kind, state in seen.items() if state == "fires")
        fails = ", ".join(f"{kind} ({state})" for kind, state in seen.items() if state != "fires")
        yield _row(kernel, best.release, best.version, arch, boot, fires, fails)


def hooksets(facts: RunFacts) -> Iterator[str]:
    """Kernel by variant: the cell's verdict, and how many tests passed."""
    columns = list(dict.fromkeys(cell.column for cell in facts.cells))
    yield from _head("kernel", *columns)
    for name in dict.fromkeys(cell.kernel for cell in facts.cells):
        cells = {cell.column: cell for cell in facts.cells if cell.kernel == name}
        told = (_verdict(facts, cells[column]) if column in cells else "not planned" for column in columns)
        yield _row(name, *told)
    yield ""
    yield from (
        f"- {markdown(cell.id)}: {mark(cell.verdict)}: {markdown(cell.reason)}"
        for cell in facts.cells
        if cell.verdict is not Verdict.PASS
    )


def doors(facts: RunFacts) -> Iterator[str]:
    """Door by variant: on how many kernels the test passed, and how it ended on the others."""
    columns: dict[str, list[CellFacts]] = {}
    for cell in facts.cells:
        columns.setdefault(cell.column, []).append(cell)
    yield from _head("door", *columns)
    for scenario in catalogue.CATALOGUE:
        if scenario.family == DOORS:
            ended = (_ended(facts, scenario.name, cells) for cells in columns.values())
            yield _row(f"`{scenario.name}`", *ended, plain=1)


def programs(facts: RunFacts) -> Iterator[str]:
    """What the verifier had to do, and how long the agent took to load."""
    yield from _head("cell", "programs", "largest program", "instructions", "load", "events not seen whole")
    for cell in facts.cells:
        if cell.largest:
            name, count = cell.largest
            partly = ", ".join(f"{event} ({state})" for event, state in cell.partly.items())
            yield _row(cell.id, str(cell.programs), name, f"{count:,}", f"{cell.load_s} s", partly)


def limits(facts: RunFacts) -> Iterator[str]:
    """What a hook set was said not to see, where one was: by the words, with the event types."""
    told = {cell.column: cell.limits for cell in facts.cells if cell.limits}
    for column, words in told.items():
        for text, events in hooks.limits(words):
            yield f"- {markdown(column)}: {', '.join(f'`{event}`' for event in events)}: {markdown(text)}"
    if not told:
        yield "Nothing: every hook set of that run sees each event whole, or not at all."


def scenarios(facts: RunFacts) -> Iterator[str]:
    """Every scenario of the catalogue, and how it ended in all cells."""
    yield from _head("scenario", "proves", "in that run")
    for scenario in catalogue.CATALOGUE:
        yield _row(f"`{scenario.name}`", scenario.proves, _ended(facts, scenario.name, facts.cells), plain=2)


SECTIONS: dict[str, Callable[[RunFacts], Iterable[str]]] = {
    made.__name__: made for made in (run, kernels, hooksets, doors, limits, programs, scenarios)
}


def _verdict(facts: RunFacts, cell: CellFacts) -> str:
    ended = facts.verdicts(cell)
    return f"{mark(cell.verdict)} {ended.count(Verdict.PASS)}/{len(ended)}"


def _ended(facts: RunFacts, test: str, cells: Iterable[CellFacts]) -> str:
    """`✓ 3, ○ SKIP 1 (5.10)`: how a test ended over `cells`."""
    found = [(cell.kernel, verdict) for cell, verdict in facts.ended(test, cells)]
    told = [_told(verdict, number, found) for verdict, number in tally(ended for _, ended in found)]
    return ", ".join(told) or "not in it"


def _told(verdict: Verdict, number: int, found: Iterable[tuple[str, Verdict]]) -> str:
    if verdict is Verdict.PASS:
        return f"✓ {number}"
    where = dict.fromkeys(kernel for kernel, ended in found if ended is verdict)
    return f"{mark(verdict)} {number} ({', '.join(where)})"


def _counted(counts: Sequence[tuple[Verdict, int]]) -> str:
    return ", ".join(f"{number:,} {verdict}" for verdict, number in counts)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*words: str, plain: int = 0) -> str:
    """A row; the first `plain` words are Markdown already."""
    told = [*words[:plain], *map(markdown, words[plain:])]
    return f"| {' | '.join(told)} |"
