"""Tables of docs/tables.md that come from a run: kernels, hook sets, system calls, programs and scenarios.

The text between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is generated; the rest of the page is
written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from harness.report.facts import CellFacts, RunFacts
from harness.report.shared.verdicts import counts
from harness.results.model import Scenario
from harness.results.verdict import Verdict
from harness.text import counted, markdown

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
SYSTEM_CALLS = "doors."  # begins the names of the scenarios that use every system call


def render(page: str, facts: RunFacts, described: Mapping[str, Scenario]) -> str:
    """Return the page with its sections generated again; sections with other names stay unchanged.

    `described` has every scenario by name, also those that the run did not plan. Facts without cells mean
    that no night was recorded yet.
    """
    notes = Notes(facts)
    sections: dict[str, Callable[[], Iterable[str]]] = {
        "run": partial(run, facts),
        "kernels": partial(kernels, facts),
        "hooksets": partial(hooksets, facts, notes),
        "variants": partial(variants, facts, notes),
        "limits": notes.lines,
        "system_calls": partial(system_calls, facts, described),
        "programs": partial(programs, facts),
        "scenarios": partial(scenarios, facts, described),
    }

    def generated(match: re.Match[str]) -> str:
        section = sections.get(match[2])
        if section is None:
            return match[0]
        nothing = not facts.cells and match[2] not in ("run", "scenarios")
        return match[1] + "".join(f"{line}\n" for line in ([] if nothing else section())) + match[3]

    return _SECTION.sub(generated, page)


class Notes:
    """The footnotes of the page: one for each text about what is not seen, in the order of the cells.

    A text is the reason of a cell that did not pass, or a limit of its hook set.
    """

    def __init__(self, facts: RunFacts) -> None:
        self._numbers: dict[str, int] = {}
        self._events: dict[str, dict[str, None]] = {}
        for cell in facts.cells:
            for text in _texts(cell):
                self._numbers.setdefault(text, len(self._numbers) + 1)
                events = (event for event, limit in cell.limits.items() if limit == text)
                self._events.setdefault(text, {}).update(dict.fromkeys(events))

    def of(self, cell: CellFacts) -> str:
        """Return the references of a cell, such as ` [1] [4]`."""
        return "".join(f" [{number}]" for number in sorted(self._numbers[text] for text in _texts(cell)))

    def lines(self) -> Iterator[str]:
        """Yield the footnotes, each with the event types that it is about."""
        for text, number in self._numbers.items():
            events = ", ".join(f"`{event}`" for event in self._events[text])
            yield f"{number}. {events}{': ' if events else ''}{markdown(text)}"
        if not self._numbers:
            yield "Nothing: every hook set of that run sees each event whole, or not at all."


def _texts(cell: CellFacts) -> list[str]:
    # A reason begins with the fact; what follows are the hooks that depend on it.
    own = [] if cell.verdict is Verdict.PASS else [cell.reason.partition(": ")[0]]
    return list(dict.fromkeys([*own, *cell.limits.values()]))


def run(facts: RunFacts) -> Iterator[str]:
    """Name the run that the tables describe."""
    if not facts.cells:
        yield "No complete, green night is recorded yet: the tables of kernels and hook sets are empty."
        return
    ended = counts(verdict for cell in facts.cells for verdict in facts.verdicts(cell))
    took = f"{facts.duration_s / 60:.0f} min on {facts.cpus} CPUs with {markdown(facts.accelerator)}"
    run = f"Run {markdown(facts.id)}, {markdown(facts.started[:10])}: {counted(len(facts.cells), 'cell')}"
    yield f"{run}, {_counted(ended)}; {took}."


def kernels(facts: RunFacts) -> Iterator[str]:
    """List every kernel: what its series resolved to, and the program types that do not fire."""
    yield from _head("kernel", "release", "package", "boot", "program types that do not fire")
    for kernel in dict.fromkeys(map(_kernel, facts.cells)):
        cells = [cell for cell in facts.cells if _kernel(cell) == kernel]
        best = max(cells, key=lambda cell: (bool(cell.release), bool(cell.capabilities), cell.boot_s))
        boot = f"{best.boot_s} s, {best.start}" if best.boot_s else ""
        states = best.capabilities.items()
        fails = (
            f"{kind} ({state})"
            for kind, state in states
            if state != "fires" and kind not in ("skips", "reattach")
        )
        yield _row(kernel, best.release, best.version, boot, ", ".join(fails))


def hooksets(facts: RunFacts, notes: Notes) -> Iterator[str]:
    """Show kernel by hook set: how many tests passed of those that the kernel can run, and footnotes."""
    columns = _plain_columns(facts)
    yield from _head("kernel", *columns)
    for kernel in dict.fromkeys(map(_kernel, facts.cells)):
        cells = {cell.column: cell for cell in facts.cells if _kernel(cell) == kernel}
        ended = (_passed(facts, cells[name], notes) if name in cells else "" for name in columns)
        yield _row(kernel, *ended)


def variants(facts: RunFacts, notes: Notes) -> Iterator[str]:
    """Show each other variant: on which kernels it ran, and how many tests passed there."""
    columns: dict[str, list[CellFacts]] = {}
    for cell in facts.cells:
        if " · " in cell.column:
            columns.setdefault(cell.column, []).append(cell)
    yield from _head("hook set and variant", "passed of planned")
    for column, cells in columns.items():
        yield _row(column, ", ".join(f"{_kernel(cell)} {_passed(facts, cell, notes)}" for cell in cells))


def system_calls(facts: RunFacts, described: Mapping[str, Scenario]) -> Iterator[str]:
    """Show system call by hook set: on how many kernels its test passed, of those that ran it."""
    columns = {name: [cell for cell in facts.cells if cell.column == name] for name in _plain_columns(facts)}
    yield from _head("scenario", *columns)
    for name in described:
        if name.startswith(SYSTEM_CALLS):
            yield _row(f"`{name}`", *(_ended(facts, name, cells) for cells in columns.values()), plain=1)


def programs(facts: RunFacts) -> Iterator[str]:
    """Show kernel by hook set: how many programs are loaded, and the verified instructions of the largest."""
    columns = _plain_columns(facts)
    yield from _head("kernel", *columns)
    for kernel in dict.fromkeys(map(_kernel, facts.cells)):
        cells = {cell.column: cell for cell in facts.cells if _kernel(cell) == kernel and cell.largest}
        yield _row(kernel, *(_size(cells[name]) if name in cells else "" for name in columns))


def scenarios(facts: RunFacts, described: Mapping[str, Scenario]) -> Iterator[str]:
    """List every scenario, and in how many cells it passed of those that ran it."""
    yield from _head("scenario", "proves", "passed")
    for name, scenario in described.items():
        yield _row(f"`{name}`", scenario.proves, _ended(facts, name, facts.cells), plain=2)


def _plain_columns(facts: RunFacts) -> list[str]:
    return list(dict.fromkeys(cell.column for cell in facts.cells if " · " not in cell.column))


def _kernel(cell: CellFacts) -> str:
    return cell.kernel if cell.arch == "amd64" else f"{cell.kernel} {cell.arch}"


def _passed(facts: RunFacts, cell: CellFacts, notes: Notes) -> str:
    return _share(facts.verdicts(cell)) + notes.of(cell)


def _ended(facts: RunFacts, test: str, cells: Iterable[CellFacts]) -> str:
    ended = [verdict for _, verdict in facts.ended(test, cells)]
    return _share(ended) if ended else ""


def _share(ended: Sequence[Verdict]) -> str:
    passed = sum(verdict is Verdict.PASS for verdict in ended)
    return f"{'✓ ' if passed else '○ '}{passed:,}/{len(ended):,}"


def _size(cell: CellFacts) -> str:
    assert cell.largest
    return f"{cell.programs} · {cell.largest[1]:,}"


def _counted(ended: Sequence[tuple[Verdict, int]]) -> str:
    return ", ".join(f"{number:,} {verdict}" for verdict, number in ended)


def _head(*names: str) -> Iterator[str]:
    yield _row(*names)
    yield f"|{'---|' * len(names)}"


def _row(*words: str, plain: int = 0) -> str:
    """Return a row; the first `plain` words are already Markdown."""
    return f"| {' | '.join([*words[:plain], *map(markdown, words[plain:])])} |"
