"""Tables of docs/tables.md that come from a run: kernels, hook sets, system calls, programs and scenarios.

The text between `<!-- begin: NAME -->` and `<!-- end: NAME -->` is generated; the rest of the page is
written by hand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise

from harness.plan.matrix import suite_test
from harness.report.facts import CellFacts, RunFacts
from harness.report.shared.verdicts import counts
from harness.results.model import Scenario
from harness.results.verdict import Verdict
from harness.text import counted, markdown

_SECTION = re.compile(r"(<!-- begin: (\w+) -->\n).*?(<!-- end: \2 -->)", re.DOTALL)
SYSTEM_CALLS = "doors."  # begins the names of the scenarios that use every system call


def render(
    page: str, facts: RunFacts, described: Mapping[str, Scenario], left_out: Iterable[str] = ()
) -> str:
    """Return the page with its sections generated again; sections with other names stay unchanged.

    `described` has every scenario by name, also those that the run did not plan. Facts without cells mean
    that no night was recorded yet. `left_out` has sentences on what the run does not include.
    """
    notes = Notes(facts)
    sections: dict[str, Callable[[], Iterable[str]]] = {
        "run": partial(run, facts, left_out),
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
    """The footnotes of the page: one for each thing that is not seen, in the order of the cells.

    A thing is the reason of a cell that did not pass, or a part of a limit of its hook set.
    """

    def __init__(self, facts: RunFacts) -> None:
        texts = dict.fromkeys(text for cell in facts.cells for text in cell.limits.values())
        self._things = _things(list(texts))
        self._numbers: dict[str, int] = {}
        self._events: dict[
            str, dict[str, dict[str, None]]
        ] = {}  # by thing, and by what only some have besides
        for cell in facts.cells:
            for thing in self._of(cell):
                self._numbers.setdefault(thing, len(self._numbers) + 1)
            for event, limit in cell.limits.items():
                for thing, more in self._things[limit]:
                    self._events.setdefault(thing, {}).setdefault(more, {})[event] = None

    def of(self, cell: CellFacts) -> str:
        """Return the references of a cell, such as ` [1] [4]`."""
        return "".join(f" [{number}]" for number in sorted(self._numbers[thing] for thing in self._of(cell)))

    def lines(self) -> Iterator[str]:
        """Yield the footnotes, each with the event types that it is about."""
        for thing, number in self._numbers.items():
            by_more = self._events.get(thing, {})
            events = _events(dict.fromkeys(event for events in by_more.values() for event in events))
            rest = [f"{_events(events)}: {markdown(more)}" for more, events in by_more.items() if more]
            more = f" ({'; '.join(rest)})" if rest else ""
            yield f"{number}. {events}{': ' if events else ''}{markdown(thing)}{more}"
        if not self._numbers:
            yield "Nothing: every hook set of that run sees each event whole, or not at all."

    def _of(self, cell: CellFacts) -> list[str]:
        # A reason begins with the fact; what follows are the hooks that depend on it.
        own = [] if cell.verdict is Verdict.PASS else [cell.reason.partition(": ")[0]]
        things = (thing for limit in cell.limits.values() for thing, _ in self._things[limit])
        return list(dict.fromkeys([*own, *things]))


def _events(labels: Iterable[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


def _things(texts: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """Split each of these limits into things that are not seen, each with what this limit adds to it.

    A limit is a list of parts, separated by `; `. Parts that always occur together are one thing. A part that
    is another one, a comma and some words adds these words to the other.
    """
    parts = {text: text.split("; ") for text in texts}
    count = Counter(part for found in parts.values() for part in found)
    together = Counter(pair for found in parts.values() for pair in pairwise(found))
    things: dict[str, list[str]] = {}
    for text, (first, *_) in parts.items():
        things[text] = [first]
        for one, other in pairwise(parts[text]):
            if together[one, other] == count[one] == count[other]:
                things[text][-1] += f"; {other}"
            else:
                things[text].append(other)
    known = {thing for found in things.values() for thing in found}
    return {text: [_based(thing, known) for thing in found] for text, found in things.items()}


def _based(thing: str, known: Container[str]) -> tuple[str, str]:
    """Split `thing` into the shortest of the `known` ones that it begins with, and the words that follow."""
    for comma in re.finditer(", ", thing):
        if thing[: comma.start()] in known:
            return thing[: comma.start()], thing[comma.end() :]
    return thing, ""


def run(facts: RunFacts, left_out: Iterable[str] = ()) -> Iterator[str]:
    """Name the run that the tables describe, and what it does not include."""
    if not facts.cells:
        yield "No complete, green night is recorded yet: the tables of kernels and hook sets are empty."
        return
    ended = counts(verdict for cell in facts.cells for verdict in facts.verdicts(cell))
    took = f"{facts.duration_s / 60:.0f} min on {facts.cpus} CPUs with {markdown(facts.accelerator)}"
    run = f"Run {markdown(facts.id)}, {markdown(facts.started[:10])}: {counted(len(facts.cells), 'cell')}"
    parts = ", ".join(f"{markdown(name)} {seconds / 60:.0f} min" for name, seconds in facts.shards.items())
    agent = f"Agent: {markdown(facts.agent)}; harness {markdown(facts.harness or 'unknown')}."
    yield f"{run}, {_counted(ended)}; {took}{f' (shards: {parts})' if parts else ''}. {agent}"
    yield from left_out


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
        # Each once: the archive may have moved between two shards.
        releases = dict.fromkeys(cell.release for cell in cells if cell.release)
        versions = dict.fromkeys(cell.version for cell in cells if cell.version)
        yield _row(kernel, ", ".join(releases), ", ".join(versions), boot, ", ".join(fails))


def hooksets(facts: RunFacts, notes: Notes) -> Iterator[str]:
    """Show kernel by hook set: how many tests passed of those that the kernel can run, and footnotes."""
    columns = _plain_columns(facts)
    yield from _head("kernel", *columns)
    for kernel in dict.fromkeys(map(_kernel, facts.cells)):
        cells = {cell.column: cell for cell in facts.cells if _kernel(cell) == kernel}
        ended = (_passed(facts, cells[name], notes) if name in cells else "" for name in columns)
        yield _row(kernel, *ended)


def variants(facts: RunFacts, notes: Notes) -> Iterator[str]:
    """Show each other variant and each suite: on which kernels it ran, and how many tests passed there."""
    columns: dict[str, list[CellFacts]] = {}
    plain = _plain_columns(facts)
    for cell in facts.cells:
        if cell.column not in plain:
            columns.setdefault(cell.column, []).append(cell)
    yield from _head("hook set and variant, or program", "passed of planned")
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
    """Return the hook sets; a suite is a column of the matrix, and no hook set."""
    columns = dict.fromkeys(cell.column for cell in facts.cells if " · " not in cell.column)
    return [column for column in columns if suite_test(column) not in facts.tests]


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
