"""Say what kernels there are, or fetch those of the matrix."""

from __future__ import annotations

import argparse
import contextlib

from rich.console import Console
from rich.table import Table

from harness.commands.booted import say
from harness.commands.options import add_connect, add_matrix, selectors
from harness.errors import InfrastructureError
from harness.run import Options, Run


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="the newest kernel of each series in the repositories")
    listing.add_argument("--flavour", default="cloud")
    listing.add_argument("--arch", default="amd64")
    fetching = actions.add_parser("fetch", help="all that the matrix needs, into the cache")
    add_matrix(fetching, "kernel", "arch", "tag")
    add_connect(fetching)


def execute(arguments: argparse.Namespace) -> int:
    """List or fetch."""
    return _list(arguments) if arguments.action == "list" else _fetch(arguments)


def _list(arguments: argparse.Namespace) -> int:
    from harness.kernels import available

    table = Table("series", "release", "suite", "packages", box=None, pad_edge=False)
    for kernel in available(arguments.flavour, arguments.arch, progress=say):
        size = sum(package.size for package in kernel.packages) >> 20
        table.add_row(kernel.series, kernel.release, kernel.suite, f"{len(kernel.packages)}, {size} MiB")
    Console().print(table)
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from harness.vmbench import VmBench

    options = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
    with contextlib.closing(VmBench(arguments.connect)) as bench:
        plan = Run(options, bench).plan
        cells = tuple(cell.model_copy(update={"tests": ()}) for cell in plan.cells)
        supplies = bench.prepare(plan.model_copy(update={"cells": cells}), "tcg", say)
    for name, facts in supplies.kernels.items():
        say(f"{name}: {facts.release}")
    if supplies.missing:
        raise InfrastructureError(f"not fetched: {', '.join(supplies.missing)}")
    return 0
