"""Tables of docs/tables.md that come from a run: kernels, hook sets, system calls, programs and scenarios.

The text between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is generated; the rest of the page is
written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from harness.report.facts import CellFacts, RunFacts
from harness.report.shared import hooks
from harness.report.shared.verdicts import counts, mark
from harness.results.model import Scenario
from harness.results.verdict import Verdict
from harness.text import counted, markdown

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
SYSTEM_CALLS = "doors."  # begins the names of the scenarios that use every system call


def render(page: str, facts: RunFacts, described: Mapping[str, Scenario]) -> str:
    """Return the page with its sections generated again; sections with other names stay unchanged.

    `described` has every scenario by name, also those that the run did not plan.
    """
    sections: dict[str, Callable[[RunFacts], Iterable[str]]] = {
        "run": run,
        "kernels": kernels,
        "hooksets": hooksets,
        "system_calls": partial(system_calls, described=described),
        "limits": limits,
        "programs": programs,
        "scenarios": partial(scenarios, described=described),
    }

    def generated(match: re.Match[str]) -> str:
        section = sections.get(match[2])
        return match[1] + "\n".join(section(facts)) + "\n" + match[3] if section else match[0]

    return _SECTION.sub(generated, page)


def run(facts: RunFacts) -> Iterator[str]:
    """Name the run that the tables describe."""
    ended = counts(verdict for cell in facts.cells for verdict in facts.verdicts(cell))
    took = f"{facts.duration_s / 60:.0f} min on {facts.cpus} CPUs with {markdown(facts.accelerator)}"
    run = f"Run {markdown(facts.id)}, {markdown(facts.started[:10])}: {counted(len(facts.cells), 'cell')}"
    missing = " Tests with NOT_RUN have no result." if Verdict.NOT_RUN in dict(ended) else ""
    yield f"{run}, {_counted(ended)}; {took}, exit {facts.exit_code}.{missing}"


def kernels(facts: RunFacts) -> Iterator[str]:
    """List every kernel: what its series resolved to, how it booted, and the program types that fire."""
    yield from _head("kernel", "release", "package", "arch", "boot", "program types that fire", "that do not")
    for kernel, arch in dict.fromkeys((cell.kernel, cell.arch) for cell in facts.cells):
        cells = [cell for cell in facts.cells if (cell.kernel, cell.arch) == (kernel, arch)]
        best = max(cells, key=lambda cell: (bool(cell.release), bool(cell.capabilities), cell.boot_s))
        boot = f"{best.boot_s} s, {best.start}" if best.boot_s else ""
        observed = {
            kind: state for kind, state in best.capabilities.items() if kind not in ("skips", "reattach")
        }
        fires = ", ".join(kind for kind, state in observed.items() if state == "fires")
        fails = ", ".join(f"{kind} ({state})" for kind, state in observed.items() if state != "fires")
        yield _row(kernel, best.release, best.version, arch, boot, fires, fails)


def hooksets(facts: RunFacts) -> Iterator[str]:
    """Show kernel by variant: the cell's verdict, and how many tests passed."""
    columns = list(dict.fromkeys(cell.column for cell in facts.cells))
    yield from _head("kernel", *columns)
    for name in dict.fromkeys(cell.kernel for cell in facts.cells):
        cells = {cell.column: cell for cell in facts.cells if cell.kernel == name}
        ended = (_passed(facts, cells[column]) if column in cells else "not planned" for column in columns)
        yield _row(name, *ended)
    yield ""
    yield from (
        f"- {markdown(cell.id)}: {mark(cell.verdict)}: {markdown(cell.reason)}"
        for cell in facts.cells
        if cell.verdict is not Verdict.PASS
    )


def system_calls(facts: RunFacts, described: Mapping[str, Scenario]) -> Iterator[str]:
    """Show system call by variant: on how many kernels its test passed, and how it ended on the others."""
    columns: dict[str, list[CellFacts]] = {}
    for cell in facts.cells:
        columns.setdefault(cell.column, []).append(cell)
    yield from _head("scenario", *columns)
    for name in described:
        if name.startswith(SYSTEM_CALLS):
            ended = (_ended(facts, name, cells) for cells in columns.values())
            yield _row(f"`{name}`", *ended, plain=1)


def programs(facts: RunFacts) -> Iterator[str]:
    """Show how many programs each cell loaded, the verifier's work, and how long the load took."""
    yield from _head("cell", "programs", "largest program", "instructions", "load", "partly visible")
    for cell in facts.cells:
        if cell.largest:
            name, count = cell.largest
            partly = ", ".join(f"{event} ({state})" for event, state in cell.partly.items())
            yield _row(cell.id, str(cell.programs), name, f"{count:,}", f"{cell.load_s} s", partly)


def limits(facts: RunFacts) -> Iterator[str]:
    """List what a hook set does not see, with the event types concerned."""
    columns = {cell.column: cell.limits for cell in facts.cells if cell.limits}
    for column, texts in columns.items():
        for text, events in hooks.limits(texts):
            yield f"- {markdown(column)}: {', '.join(f'`{event}`' for event in events)}: {markdown(text)}"
    if not columns:
        yield "Nothing: every hook set of that run sees each event whole, or not at all."


def scenarios(facts: RunFacts, described: Mapping[str, Scenario]) -> Iterator[str]:
    """List every scenario, and how it ended over all cells."""
    yield from _head("scenario", "proves", "in that run")
    for name, scenario in described.items():
        yield _row(f"`{name}`", scenario.proves, _ended(facts, name, facts.cells), plain=2)


def _passed(facts: RunFacts, cell: CellFacts) -> str:
    ended = facts.verdicts(cell)
    return f"{mark(cell.verdict)} {ended.count(Verdict.PASS)}/{len(ended)}"


def _ended(facts: RunFacts, test: str, cells: Iterable[CellFacts]) -> str:
    """Return how a test ended over `cells`, such as `✓ 3, ○ SKIP 1 (5.10)`."""
    ended = [(cell.kernel, verdict) for cell, verdict in facts.ended(test, cells)]
    parts = []
    for verdict, number in counts(verdict for _, verdict in ended):
        where = dict.fromkeys(kernel for kernel, found in ended if found is verdict)
        passed = verdict is Verdict.PASS
        parts.append(f"✓ {number}" if passed else f"{mark(verdict)} {number} ({', '.join(where)})")
    return ", ".join(parts) or "not run with this hook set"


def _counted(ended: Sequence[tuple[Verdict, int]]) -> str:
    return ", ".join(f"{number:,} {verdict}" for verdict, number in ended)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*words: str, plain: int = 0) -> str:
    """Return a row; the first `plain` words are already Markdown."""
    return f"| {' | '.join([*words[:plain], *map(markdown, words[plain:])])} |"
