"""Run one cell of an earlier run again, on the same kernel packages if they still exist."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from harness.commands.booted import on_stderr, print_stderr
from harness.commands.run import run
from harness.results.model import Results
from harness.run import hosts
from harness.run.options import ACCELERATOR, CONNECT, OUTPUT, add_to, given_path, given_text
from harness.run.run import Options


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("results", type=given_path, metavar="RESULTS", help="results.json, or its folder")
    parser.add_argument("cell", type=given_text, metavar="CELL", help="the cell's id")
    parser.add_argument(
        "--test", action="append", type=given_text, default=[], metavar="GLOB", help="only these of its tests"
    )
    add_to(parser, OUTPUT, CONNECT, ACCELERATOR)


def execute(arguments: argparse.Namespace) -> int:
    """Run the cell; return the exit code of the run."""
    from harness.host.cache import Cache
    from harness.lab import repro
    from harness.lab.lab import VmBench

    path = arguments.results / "results.json" if arguments.results.is_dir() else arguments.results
    plan, found = repro.plan_of(path, arguments.cell, arguments.test)
    with on_stderr() as progress:
        lock = repro.lock_of(plan.cells[0], found, progress, cache=Cache())
    # expectations.yaml is not applied, so that known failures are shown as failures.
    options = Options(
        matrix=path.with_name("plan.json").absolute(),
        plan=plan,
        base=Path.cwd(),
        folder=arguments.output,
        connect=arguments.connect,
        accelerator=arguments.accelerator,
        argv=arguments.argv,
    )
    bench = VmBench(arguments.connect, lock, accelerator=arguments.accelerator)
    _compare_hosts(found, plan.cells[0].id, bench.accelerator(plan.cells[0].arch)[0])
    return run(options, bench, Console(), "0")


def _compare_hosts(found: Results, cell: str, here: str) -> None:
    before = next((one.host for one in found.cells if one.id == cell), "")
    if before and before != hosts.name():
        print_stderr(f"the cell ran on host {before}, and this is {hosts.name()}")
    print_stderr("this run tests the agent that is built here now")
    if here != found.run.accelerator:
        print_stderr(f"the earlier run used {found.run.accelerator}, this host uses {here}")
