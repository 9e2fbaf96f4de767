"""`harness run --resume DIR` without a cluster: run the cells that have no result, join all results."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from harness import report
from harness.errors import ConfigError, IncompleteError, ProductError
from harness.host import paths, signals
from harness.plan.plan import Plan
from harness.report.terminal import print_results
from harness.results import agreement, folder, merge, model, results_file, shard_folders
from harness.results.model import Results
from harness.results.shard_folders import Shard
from harness.run.run import Options, options_of


def run(arguments: argparse.Namespace, play: Callable[[Options], int]) -> int:
    """Run the rest by `play`, and write all results into the folder; return their exit code.

    Cells without a result, or that failed for the infrastructure, run again as a whole; others keep their
    results. The rest runs in a folder inside the folder of the run; a rest that was killed before its results
    were joined is joined first. Raises HarnessError.
    """
    place = paths.real(arguments.resume)  # `out/latest` is a link
    if not (place / "plan.json").is_file():
        raise ConfigError(f"{place}: not the folder of a run", hint="name the folder that the run printed")
    claimed = folder.reopen(place)
    try:
        earlier = _earlier(place)
        if (place / folder.REST / results_file.FILE).exists():
            earlier = replace(earlier, results=_join(earlier, shard_folders.read(place / folder.REST)))
        again = {cell.id for cell in earlier.results.cells if cell.verdict.unknown}
        whole = earlier.results
        if again:
            rest = _play(arguments, earlier, again, play)
            if rest is None:
                return 0
            whole = _join(earlier, rest)
        print_results(Console(), whole, str(place))
        return whole.run.exit_code
    finally:
        os.close(claimed)


def _earlier(place: Path) -> Shard:
    """The run in a folder. Raises IncompleteError if it has no results, or not those of its plan."""
    if not (place / results_file.FILE).exists():
        raise IncompleteError(
            f"{place}: the run was killed before it wrote results.json",
            hint=f"run it again: --output {place}",
        )
    earlier = shard_folders.read(place)
    if wrong := agreement.disagreements(earlier.plan, earlier.results):
        raise IncompleteError("\n".join(f"{place}: {line}" for line in wrong))
    return earlier


def _only(plan: Plan, cells: Collection[str]) -> Plan:
    """The plan of these cells, which requires nothing of a whole run."""
    kept = tuple(cell for cell in plan.cells if cell.id in cells)
    return plan.model_copy(update={"cells": kept, "exercise": (), "must_pass": False})


def _play(
    arguments: argparse.Namespace, earlier: Shard, again: Collection[str], play: Callable[[Options], int]
) -> Shard | None:
    """Run the cells `again`; None if the run only listed tests. Raises HarnessError."""
    if not arguments.matrix.is_file():
        raise ConfigError(f"{arguments.matrix}: does not exist", hint="name the run's matrix with --matrix")
    place = earlier.folder / folder.REST
    shutil.rmtree(place, ignore_errors=True)  # of a rest that was killed
    wanted = options_of(vars(arguments), arguments.matrix, arguments.argv)
    known = {"earlier": earlier.results.run, "failures": earlier.results.lasting_failures()}
    change = {"plan": _only(earlier.plan, again), "folder": place, "part": True}
    try:
        play(wanted.model_copy(update={**known, **change}))
        return shard_folders.read(place) if (place / results_file.FILE).exists() else None
    finally:
        if not (place / results_file.FILE).exists():
            shutil.rmtree(place, ignore_errors=True)


def _join(earlier: Shard, rest: Shard) -> Results:
    """Write all results into the folder of the earlier run, and remove that of the rest; return them."""
    place = earlier.folder
    ran = {cell.id for cell in rest.results.cells}
    kept = tuple(cell for cell in earlier.results.cells if cell.id not in ran)
    first = earlier.results.run
    code = model.exit_code(kept) if kept else 0
    # The rest made good that the earlier run was not complete, but not a failure that no cell shows, such as
    # that of a test beside the matrix. The rest also has the failures of the harness that stay.
    if first.exit_code == ProductError.exit_code != model.exit_code(earlier.results.cells):
        code = first.exit_code
    part = earlier.results.model_copy(
        update={
            "cells": kept,
            "totals": model.totals(kept),
            "run": first.model_copy(
                update={"exit_code": code, "complete": model.complete(kept), "failures": ()}
            ),
        }
    )
    names = {cell.id for cell in kept}
    shards = [Shard(place, _only(earlier.plan, names), part), rest]
    # What a whole run requires, only the merged shards can show.
    plan = earlier.plan.model_copy(update={"exercise": ()}) if earlier.plan.shard else earlier.plan
    whole = merge.merge(plan, shards)
    same = {"id": first.id, "parts": first.parts}  # the rest is no run of its own any more
    whole = whole.model_copy(update={"run": whole.run.model_copy(update=same)})
    with signals.ignored():
        for name in ran:
            shutil.rmtree(place / folder.CELLS / name, ignore_errors=True)
        shard_folders.copy_cells(rest, place / folder.CELLS)
        results_file.write(whole, place)
        report.write_all(whole, place)
        if (trace := rest.folder / folder.TRACEBACK).exists():
            folder.append_traceback(place, trace.read_text(encoding="utf-8", errors="replace"))
        shutil.rmtree(rest.folder)
    return whole
