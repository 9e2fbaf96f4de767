"""Merges the results of the shards of one run, and compares them with the plan.

A test without a result in any shard is NOT_RUN in the merged results, so reports show it and it never passes.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from harness.errors import IncompleteError
from harness.plan.cells import Cell
from harness.plan.matrix import Suite
from harness.plan.plan import Omitted, Plan
from harness.results import agreement, exercise, model, scenarios, tested
from harness.results.model import Agent, CellResult, Host, Results, RunInfo
from harness.results.shard_folders import Shard
from harness.results.verdict import Verdict, worst, worst_exit_code

_Cell = TypeVar("_Cell", Cell, CellResult)


def whole_plan(shards: Sequence[Shard], given: Plan | None = None) -> Plan:
    """The plan `given`, or the one that consists of the shards' plans, with all that those plans require.

    What a plan requires of a whole run (`exercise`, `must_pass`) only the merged results can show. Raises
    IncompleteError if the plans of two shards contradict each other.
    """
    plan = given or _joined_plan(shards)
    strict = [shard for shard in shards if shard.plan.must_pass]
    if lenient := [shard for shard in shards if strict and not shard.plan.must_pass]:
        raise IncompleteError(
            f"{strict[0].folder} was run with --must-pass, and {lenient[0].folder} without it",
            hint="run all shards with the same options",
        )
    hooksets = (name for part in (plan, *(shard.plan for shard in shards)) for name in part.exercise)
    required = {"must_pass": plan.must_pass or bool(strict), "exercise": tuple(dict.fromkeys(hooksets))}
    return plan.model_copy(update=required)


def _joined_plan(shards: Sequence[Shard]) -> Plan:
    cells = _agreed(((cell, shard.folder) for shard in shards for cell in shard.plan.cells), "plans")
    omitted = {entry.id: entry.reason for shard in shards for entry in shard.plan.omitted}
    left_out = tuple(Omitted(id=name, reason=why) for name, why in omitted.items() if name not in cells)
    nightly = dict.fromkeys(name for shard in shards for name in shard.plan.nightly)
    return Plan(schema=1, cells=tuple(cells.values()), omitted=left_out, nightly=tuple(nightly))


def merge(plan: Plan, shards: Sequence[Shard], absent: Sequence[str] = ()) -> Results:
    """The shards' results as those of one run of `plan`. Raises IncompleteError if they contradict it.

    `absent` has a line for each shard that is known to be missing. Planned cells and tests without a result
    are NOT_RUN; `missing` lists them.
    """
    _check_suites(plan, shards)
    _check_equal("harnesses were run", shards, [shard.results.run.harness_digest for shard in shards])
    with_package = [shard for shard in shards if shard.results.run.package_digest]
    packages = [shard.results.run.package_digest for shard in with_package]
    _check_equal("Debian packages of the agent were tested", with_package, packages)
    agent = _agent_of(shards)
    results = _cells_of(shards)
    if extra := _unplanned(plan, results.values()):
        raise IncompleteError("\n".join(f"{line}: in a shard, and not planned" for line in extra))
    cells = tuple(_completed(plan, cell, results.get(cell.id)) for cell in plan.cells)
    merged = Results(
        run=_run(plan, cells, shards, absent, agent),
        cells=cells,
        totals=model.totals(cells),
        scenarios=scenarios.of_cells(cells),
    )
    if wrong := agreement.disagreements(plan, merged):
        raise IncompleteError("\n".join(wrong))
    return merged


def check_starts(shards: Sequence[Shard], within_s: float) -> None:
    """Raise IncompleteError if shards began so far apart that one of them is of an earlier run.

    A run that cannot start leaves what an earlier one wrote into its folder.
    """
    starts = _starts([shard.results.run for shard in shards])
    if starts and max(starts) - min(starts) > within_s:
        first, last = (shards[starts.index(one(starts))] for one in (min, max))
        raise IncompleteError(
            f"{first.folder} began at {first.results.run.started}, and {last.folder} at "
            f"{last.results.run.started}: not shards of one run",
            hint="remove the folder that is outdated, or allow for the time between them with --within TIME",
        )


def missing(plan: Plan, shards: Iterable[Shard]) -> list[str]:
    """A line for every planned cell or test without a result in any shard."""
    have = {cell.id: {test.name for test in cell.tests} for shard in shards for cell in shard.results.cells}
    lines = []
    for cell in plan.cells:
        if cell.id not in have:
            lines.append(f"{cell.id}: planned, and in no shard")
        else:
            absent = [test for test in cell.tests if test not in have[cell.id]]
            lines += [f"{cell.id} {test}: planned, and in no shard" for test in absent]
    return lines


def _cells_of(shards: Sequence[Shard]) -> dict[str, CellResult]:
    return _agreed(((cell, shard.folder) for shard in shards for cell in shard.results.cells), "results")


def _agreed(found: Iterable[tuple[_Cell, Path]], kind: str) -> dict[str, _Cell]:
    """The cells by their ids. Raises IncompleteError if two folders have different ones with the same id."""
    cells: dict[str, tuple[_Cell, Path]] = {}
    for cell, folder in found:
        known, owner = cells.setdefault(cell.id, (cell, folder))
        if known != cell:
            raise IncompleteError(
                f"{cell.id}: different {kind} in {_where(known, owner)} and {_where(cell, folder)}"
            )
    return {name: cell for name, (cell, _) in cells.items()}


def _where(cell: Cell | CellResult, folder: Path) -> str:
    """A folder, with the verdict and the host of a result in it."""
    if isinstance(cell, Cell):
        return str(folder)
    return f"{folder} ({cell.verdict} on {cell.host})" if cell.host else f"{folder} ({cell.verdict})"


def _check_suites(plan: Plan, shards: Sequence[Shard]) -> None:
    """Raise IncompleteError if suites of one name differ, because results have only the name of a suite."""
    known: dict[str, tuple[Suite, str]] = {}
    plans = [*((shard.plan, str(shard.folder)) for shard in shards), (plan, "the plan")]
    for suite, where in ((cell.suite, where) for part, where in plans for cell in part.cells if cell.suite):
        first, owner = known.setdefault(suite.name, (suite, where))
        if suite != first:
            raise IncompleteError(
                f"suite {suite.name}: not the same in {owner} and {where}",
                hint="run all shards with the same matrix",
            )


def _check_equal(what: str, shards: Sequence[Shard], digests: Sequence[str]) -> None:
    """Raise IncompleteError if the digests of two shards differ."""
    for shard, found in zip(shards, digests, strict=True):
        if found != digests[0]:
            raise IncompleteError(
                f"different {what} in {shards[0].folder} and {shard.folder}",
                hint="run all shards from the same commit",
            )


def _agent_of(shards: Sequence[Shard]) -> Agent | None:
    """The agent that the shards tested. Raises IncompleteError if they tested different ones."""
    merged: Agent | None = None
    first = Path()
    for shard in shards:
        if not (agent := shard.results.run.agent):
            continue
        if not merged:
            merged, first = agent, shard.folder
        elif not tested.same_agent(merged, agent):
            raise IncompleteError(f"different agents were tested in {first} and {shard.folder}")
        else:
            most = max(merged, agent, key=lambda one: len(one.objects))
            changes = False in (merged.clean, agent.clean)
            clean = False if changes else merged.clean and agent.clean
            # Commits of one agent and one harness, which the rest of the tree makes different.
            commit = _joined([*merged.commit.split(", "), agent.commit])
            update = {"objects": merged.objects | agent.objects, "clean": clean, "commit": commit}
            merged = most.model_copy(update=update)
    if merged and (nameless := next(filter(_is_nameless, shards), None)):
        raise IncompleteError(f"{nameless.folder}: tested an agent, and its results do not name it")
    return merged


def _inputs_of(shards: Sequence[Shard]) -> dict[str, str]:
    """What the verdicts of all shards depend on. Raises IncompleteError if that differs between two."""
    known: dict[str, tuple[str, Path]] = {}
    for shard in shards:
        for name, digest in shard.results.run.inputs.items():
            first, owner = known.setdefault(name, (digest, shard.folder))
            if digest != first:
                raise IncompleteError(
                    f"{name}: not the same in {owner} and {shard.folder}",
                    hint="run all shards with the same files beside the matrix",
                )
    return {name: digest for name, (digest, _) in known.items()}


def _is_nameless(shard: Shard) -> bool:
    """Whether a shard's cells loaded an agent that its results do not name."""
    return not shard.results.run.agent and any(cell.hooks for cell in shard.results.cells)


def _unplanned(plan: Plan, cells: Iterable[CellResult]) -> list[str]:
    planned = {cell.id: set(cell.tests) for cell in plan.cells}
    lines = []
    for cell in cells:
        if cell.id not in planned:
            lines.append(cell.id)
        else:
            lines += [f"{cell.id} {test.name}" for test in cell.tests if test.name not in planned[cell.id]]
    return lines


def _completed(plan: Plan, planned: Cell, result: CellResult | None) -> CellResult:
    """`result` with every planned test, in the plan's order."""
    only = plan.model_copy(update={"cells": (planned,)})
    (absent,) = model.cells_of(only, {}, {}, {}, "no shard has a result for it")
    if result is None:
        return absent
    have = {test.name: test for test in result.tests}
    if have.keys() >= set(planned.tests):
        return result
    tests = tuple(have.get(test.name, test) for test in absent.tests)
    if worst((result.verdict, Verdict.NOT_RUN)) is result.verdict:
        return result.model_copy(update={"tests": tests})
    return result.model_copy(update={"tests": tests, "verdict": Verdict.NOT_RUN, "reason": absent.reason})


def _run(
    plan: Plan,
    cells: Sequence[CellResult],
    shards: Sequence[Shard],
    absent: Sequence[str],
    agent: Agent | None,
) -> RunInfo:
    runs = [shard.results.run for shard in shards]
    unused = exercise.unexercised(plan, cells)
    codes = [model.exit_code(cells, unused), *(run.exit_code for run in runs)]
    codes += [IncompleteError.exit_code] if absent else []
    first = min(runs, key=lambda run: run.started)
    return RunInfo(
        id=f"{first.id}-merged",
        started=first.started,
        duration_s=_wall_s(runs),
        argv=first.argv,
        exit_code=worst_exit_code(codes),
        complete=model.complete(cells) and all(run.complete for run in runs) and not absent,
        host=first.host,
        hosts=_hosts(runs),
        accelerator=_joined(run.accelerator for run in runs),
        harness_version=_joined(run.harness_version for run in runs),
        harness_digest=runs[0].harness_digest,
        package_digest=max(run.package_digest for run in runs),
        agent=agent,
        inputs=_inputs_of(shards),
        failures=tuple(dict.fromkeys(failure for run in runs for failure in run.failures)),
        shards=_times(shards),
        parts=tuple(dict.fromkeys(part for run in runs for part in run.parts or (run.id,))),
        notes=tuple(
            dict.fromkeys((*_about(shards), *absent, *unused, *exercise.untried(plan, cells), *_notes(runs)))
        ),
    )


def _hosts(runs: Sequence[RunInfo]) -> tuple[Host, ...]:
    """The hosts of all shards by their names, if there are several."""
    found = {host.name: host for run in runs for host in (run.hosts or (run.host,)) if host.name}
    return tuple(found[name] for name in sorted(found)) if len(found) > 1 else ()


def _notes(runs: Sequence[RunInfo]) -> list[str]:
    """The notes of the shards. An expectation matches nothing only if it matches nothing in every shard."""
    notes = dict.fromkeys(note for run in runs for note in run.notes)
    everywhere = set.intersection(*(set(run.notes) for run in runs))
    return [note for note in notes if note in everywhere or not note.startswith("expectations.yaml: ")]


def _about(shards: Sequence[Shard]) -> list[str]:
    kinds = len({shard.results.run.host for shard in shards})
    where = "hosts of one kind" if kinds == 1 else f"hosts of {kinds} kinds"
    return [f"merged from {len(shards)} shards, run on {where}"] if len(shards) > 1 else []


def _times(shards: Sequence[Shard]) -> dict[str, float]:
    """The duration of each shard by its name; {} if all are parts of one, as those of a resumed shard are."""
    merged = {name: spent for shard in shards for name, spent in shard.results.run.shards.items()}
    named = {shard.plan.shard: shard.results.run.duration_s for shard in shards if shard.plan.shard}
    found = merged | named if len(merged | named) > 1 else {}
    return {name: found[name] for name in sorted(found)}


def _wall_s(runs: Sequence[RunInfo]) -> float:
    """The seconds from the first start to the last end; of the longest run if a start is not a valid time."""
    starts = _starts(runs)
    if not starts:
        return max(run.duration_s for run in runs)
    ends = [start + run.duration_s for start, run in zip(starts, runs, strict=True)]
    return round(max(ends) - min(starts), 3)


def _starts(runs: Sequence[RunInfo]) -> list[float]:
    """The time at which each run began; [] if one of them is not a valid time."""
    try:
        return [datetime.datetime.fromisoformat(run.started).timestamp() for run in runs]
    except (ValueError, OverflowError):
        return []


def _joined(words: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, words)))
