"""Decides whether a run may become a page of the documentation: only a complete, green night may."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.errors import ConfigError
from harness.plan.matrix import Matrix
from harness.plan.plan import Plan, everything, whole_night
from harness.report.facts import RunFacts
from harness.report.shared.verdicts import counts
from harness.report.shared.words import agent_name
from harness.results import agreement, exercise
from harness.results.model import Results
from harness.text import counted, markdown

_NAMES = 5  # that a line lists at most
_UNCLEAN = {
    False: "the agent was built from uncommitted changes",
    None: "whether the agent was built from uncommitted changes is not known",
}
_HINT = "make the page from a whole `make nightly`, or from its merged shards, with exit code 0"


def check(results: Results, plan: Plan) -> None:
    """Raise ConfigError with everything that `results` lacks of a green run of `plan`, the whole night."""
    lines = list(_lacking(results, plan))
    if lines:
        raise ConfigError(
            f"run {results.run.id} is not a complete, green night:\n"
            + "\n".join(f"  {line}" for line in lines),
            hint=_HINT,
        )


def in_order(results: Results, plan: Plan) -> Results:
    """Return results with the cells in the order of the plan; those of merged shards are in another one."""
    order = {cell.id: place for place, cell in enumerate(plan.cells)}
    cells = sorted(results.cells, key=lambda cell: order.get(cell.id, len(order)))
    return results.model_copy(update={"cells": tuple(cells)})


def check_facts(known: RunFacts) -> None:
    """Raise ConfigError if the stored facts are those of a run that was not green, or only a part of them."""
    pairs = [
        (cell, test, verdict) for test in known.tests for cell, verdict in known.ended(test, known.cells)
    ]
    red = [f"{cell.id} {test} ({verdict})" for cell, test, verdict in pairs if not verdict.expected]
    red += [f"{cell.id} ({cell.verdict})" for cell in known.cells if not cell.verdict.expected]
    problem = f"not as expected: {_some(red)}" if red else ""
    problem = problem or (f"exit code {known.exit_code}" if known.exit_code else "")
    if known.cells and not known.clean:
        problem = problem or f"{_UNCLEAN[known.clean]}: {known.agent}"
    if known.planned not in (0, len(pairs)):
        problem = problem or f"it has results of {len(pairs):,} of {known.planned:,} tests"
    if problem:
        raise ConfigError(f"run {known.id} is not a complete, green night: {problem}", hint=_HINT)


def _lacking(results: Results, plan: Plan) -> Iterator[str]:
    ran = {cell.id: cell for cell in results.cells}
    if not results.run.complete:
        yield "the run was interrupted"
    yield from _unproven(results)
    if missing := [cell.id for cell in plan.cells if cell.id not in ran]:
        yield f"{counted(len(missing), 'cell')} of {len(plan.cells)} did not run: {_some(missing)}"
    pairs = {(cell.id, test.name) for cell in results.cells for test in cell.tests}
    planned = [(cell, test) for cell, test in plan.pairs() if cell in ran]
    if left := [f"{cell} {test}" for cell, test in planned if (cell, test) not in pairs]:
        yield f"{counted(len(left), 'test')} of cells that ran did not run: {_some(left)}"
    red = [verdict for cell in results.cells for test in cell.tests if not (verdict := test.verdict).expected]
    if red:
        names = [f"{c.id} {t.name}" for c in results.cells for t in c.tests if not t.verdict.expected]
        ended = ", ".join(f"{number:,} {verdict}" for verdict, number in counts(red))
        yield f"not as expected: {ended}: {_some(names)}"
    if cells := [f"{cell.id} ({cell.verdict})" for cell in results.cells if not cell.verdict.expected]:
        yield f"{counted(len(cells), 'cell')} not as expected: {_some(cells)}"
    yield from agreement.other_variants(plan, results)
    if not missing and not left:  # what no cell exercised may be in the missing ones
        # A run of selected parts does not look for these, even if it selected everything.
        yield from exercise.unexercised(plan, results.cells)
    if results.run.exit_code and not red and not cells:
        yield f"the run ended with exit code {results.run.exit_code}"


def _unproven(results: Results) -> Iterator[str]:
    """Yield what results of an older harness, or of a tree without git, do not say."""
    agent = results.run.agent
    if agent is None:
        yield "its results do not name the agent"
    elif not agent.clean:
        yield f"{_UNCLEAN[agent.clean]}: {agent_name(agent)}"
    if unchecked := [cell.id for cell in results.cells if not cell.closed]:
        yield f"the end of {counted(len(unchecked), 'cell')} was not checked: {_some(unchecked)}"


def left_out(known: RunFacts, matrix: Matrix) -> Iterator[str]:
    """Yield a sentence for each part of the matrix, as it is now, of which a night has no result.

    A night need not have the cells of other tags, and the matrix may have grown since: then the page says so.
    """
    if not known.cells:
        return
    ran = {cell.id for cell in known.cells}
    ended = {(cell.id, test) for test in known.tests for cell, _ in known.ended(test, known.cells)}
    plan = whole_night(matrix)
    planned = {cell.id for cell in plan.cells}
    found = (
        (
            "cell",
            "of other tags",
            [one.id for one in everything(matrix).cells if one.id not in ran | planned],
        ),
        ("cell", "that the matrix has now", [cell.id for cell in plan.cells if cell.id not in ran]),
        (
            "test",
            "that its cells have now",
            [f"{cell} {test}" for cell, test in plan.pairs() if cell in ran and (cell, test) not in ended],
        ),
    )
    for noun, which, names in found:
        if names:
            yield f"It does not include {counted(len(names), noun)} {which}: {markdown(_some(names))}."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
