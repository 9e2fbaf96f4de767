"""Print what a run would do, and why something would not run."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from harness.commands.options import add_connect, add_matrix, selectors
from harness.plan import Plan
from harness.run import Options, Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_matrix(parser)
    add_connect(parser)
    parser.add_argument("--json", action="store_true", help="print plan.json")


def execute(arguments: argparse.Namespace) -> int:
    """Print the plan; boots and fetches nothing."""
    from harness.vmbench import VmBench

    options = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
    plan = Run(options, VmBench(arguments.connect)).plan
    console = Console()
    if arguments.json:
        console.out(plan.to_json(), end="", highlight=False)
    else:
        show(plan, console)
    return 0


def show(plan: Plan, console: Console) -> None:
    """Print `plan` for people."""
    table = Table("cell", "kernel", "machine", "tests", box=None, pad_edge=False)
    for cell in plan.cells:
        kernel = f"{cell.kernel.series} {cell.kernel.flavour} {cell.arch}"
        table.add_row(cell.id, kernel, cell.machine, str(len(cell.tests)))
    console.print(table)
    tests = list(dict.fromkeys(test for _, test in plan.pairs()))
    console.print(f"{len(plan.cells)} cells on {len(plan.machines())} machines, {len(plan.pairs())} tests:")
    console.print("  " + " ".join(tests), highlight=False)
    for omitted in plan.omitted:
        console.print(f"not {omitted.id}: {omitted.reason}", highlight=False, markup=False)
