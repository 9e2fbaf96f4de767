"""Print the cells and tests of a run, and why others would not run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from harness.commands import options
from harness.commands.options import add_bench, add_matrix, selectors
from harness.kernels import sources
from harness.lab import emulation
from harness.plan import shards, suites
from harness.plan.cost import TIMES, cell_seconds, machine_seconds
from harness.plan.plan import Plan, reasons
from harness.report.lines import duration
from harness.report.terminal import print_table
from harness.run.options import typed
from harness.run.run import Options, Run
from harness.run.times import read_shared, read_times
from harness.text import counted


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_matrix(parser)
    add_bench(parser)
    parser.add_argument(
        "--json", action="store_true", help="print plan.json, or the shards with --shards, as JSON"
    )
    parser.add_argument(
        "--shards",
        type=typed(shards.number),
        default=0,
        metavar="N",
        help="print what each `harness run --shard I/N` runs",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the plan; nothing is booted.

    Raises ConfigError if this host lacks programs for guests that it has to emulate, or for kernels that it
    has to build. A plan as JSON or in shards may be for other hosts.
    """
    wanted = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
    run = Run(wanted, options.bench(arguments))
    plan = run.plan
    suites.check_existing(plan, run.base)
    console = Console()
    known = read_shared(run.options.matrix.parent / TIMES)
    if arguments.shards:
        _shards(plan, arguments.shards, known, console, as_json=arguments.json)
    elif arguments.json:
        console.out(plan.to_json(), end="", highlight=False)
    else:
        assert run.matrix
        why = reasons(run.matrix, plan, wanted.selectors)
        show(plan, why, known or read_times(run.times_path), console)
        emulation.check_foreign(cell.arch for cell in plan.cells)
        for kernel, arch in dict.fromkeys((cell.kernel, cell.arch) for cell in plan.cells):
            sources.check(kernel, arch)
        sources.check_host(cell.kernel for cell in plan.cells)
    return 0


def _shards(plan: Plan, number: int, known: Mapping[str, float], console: Console, *, as_json: bool) -> None:
    """Print the shards that are not empty; the JSON is for a matrix of CI jobs."""
    rows: list[dict[str, Any]] = [
        {
            "shard": f"{index}/{number}",
            "machines": list(part.machines()),
            "cells": len(part.cells),
            "tests": len(part.pairs()),
            "cost_s": round(sum(machine_seconds(cells, known) for cells in part.machines().values()), 1),
        }
        for index, part in enumerate(shards.split(plan, number, known), 1)
        if part.cells
    ]
    if as_json:
        console.out(json.dumps({"shards": rows}), highlight=False)
        return
    table = Table("shard", "cells", "tests", "about", "machines", box=None, pad_edge=False)
    for row in rows:
        words = [str(row[name]) for name in ("shard", "cells", "tests")]
        table.add_row(*words, f"{row['cost_s']} s", " ".join(row["machines"]))
    print_table(console, table)


def show(plan: Plan, why: Mapping[str, str], known: Mapping[str, float], console: Console) -> None:
    """Print `plan` for people: for each cell its tests, how long it may take, and why it is planned."""
    table = Table("cell", "tests", "about", "why", box=None, pad_edge=False)
    seconds = 0.0
    for neighbours in plan.machines().values():
        for cell in neighbours:
            cost = cell_seconds(cell, neighbours, known)
            seconds += cost
            table.add_row(cell.id, str(len(cell.tests)), duration(cost), why.get(cell.id, ""))
    print_table(console, table)
    tests = list(dict.fromkeys(test for _, test in plan.pairs()))
    cells, machines = counted(len(plan.cells), "cell"), counted(len(plan.machines()), "machine")
    source = "by the times of earlier runs" if known else "a guess: no earlier run is known"
    console.print(f"about {duration(seconds)} on one machine at a time ({source})", highlight=False)
    console.print(f"{cells} on {machines}, {counted(len(plan.pairs()), 'test')}:", highlight=False)
    console.print("  " + " ".join(tests), highlight=False)
    if plan.nightly:
        words = f"only with --tag nightly, or by name: {' '.join(plan.nightly)}"
        console.print(words, highlight=False)
    for omitted in plan.omitted:
        console.print(f"not {omitted.id}: {omitted.reason}", highlight=False, markup=False)
