"""`harness run --resume DIR` without a cluster: run the machines that have no result, join all results."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from harness import report
from harness.errors import ConfigError
from harness.plan.plan import Plan
from harness.results import merge, model, shard_folders
from harness.results.shard_folders import Shard
from harness.run.run import Options, options_of

_REST = "-rest"  # the name of the folder of the rest, beside the folder of the run


def run(arguments: argparse.Namespace, play: Callable[[Options], int]) -> int:
    """Run the rest by `play`, and replace the folder by one with all results; return their exit code.

    Machines of which any cell has no result, or failed for the infrastructure, run again as a whole. If the
    rest is interrupted too, `--resume` takes what it has. Raises ConfigError.
    """
    folder: Path = arguments.resume.absolute()
    rest_folder = folder.with_name(folder.name + _REST)
    if not (folder / "plan.json").is_file():
        raise ConfigError(f"{folder}: not the folder of a run", hint="name the folder that the run printed")
    earlier = shard_folders.read(folder)
    if rest_folder.exists():
        raise ConfigError(f"{rest_folder}: already exists", hint="remove it, or move it away")
    unknown = {cell.id for cell in earlier.results.cells if cell.verdict.unknown}
    again = [
        name for name, cells in earlier.plan.machines().items() if any(cell.id in unknown for cell in cells)
    ]
    if not again:
        return earlier.results.run.exit_code
    rest = _only(earlier.plan, lambda machine: machine in again)
    wanted = options_of(vars(arguments), arguments.matrix, arguments.argv)
    play(wanted.model_copy(update={"plan": rest, "folder": rest_folder, "part": True}))
    kept = _only(earlier.plan, lambda machine: machine not in again)
    return _join(folder, earlier, kept, shard_folders.read(rest_folder))


def _only(plan: Plan, wanted: Callable[[str], bool]) -> Plan:
    cells = tuple(cell for cell in plan.cells if wanted(cell.machine))
    return plan.model_copy(update={"cells": cells, "exercise": (), "must_pass": False})


def _join(folder: Path, earlier: Shard, kept: Plan, rest: Shard) -> int:
    """Write all results into one folder in place of both; return their exit code."""
    ids = {cell.id for cell in kept.cells}
    cells = tuple(cell for cell in earlier.results.cells if cell.id in ids)
    # The code of the earlier run says that it was not complete, which its rest made good.
    run = {"exit_code": model.exit_code(cells, ()), "complete": model.complete(cells)}
    update = {
        "cells": cells,
        "totals": model.totals(cells),
        "run": earlier.results.run.model_copy(update=run),
    }
    results = earlier.results.model_copy(update=update)
    shards = [Shard(folder, kept, results), rest] if cells else [rest]
    joined = folder.with_name(folder.name + "-joined")
    whole = merge.merge(earlier.plan, shards)
    shard_folders.write(whole, earlier.plan, shards, joined, report.write_all)
    before = folder.with_name(folder.name + "-before")
    folder.rename(before)
    joined.rename(folder)
    for old in (before, rest.folder):
        shutil.rmtree(old)
    return whole.run.exit_code
