"""Measure what monitoring costs on one kernel, for the agent and for other monitors."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import booted, options
from harness.commands.options import add_bench, add_matrix, selectors
from harness.errors import ConfigError
from harness.plan import quantities
from harness.run.options import given_path, typed

if TYPE_CHECKING:
    from harness.bench.model import Bench

ROUNDS = 2
CLOCKS = ("auto", "instructions", "time")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_matrix(parser, "kernel", "arch", "tag")
    add_bench(parser)
    for name in ("monitor", "workload"):
        parser.add_argument(
            f"--{name}", action="append", default=[], metavar="GLOB", help=f"{name}s; see --list"
        )
    parser.add_argument(
        "--rounds", type=typed(quantities.count), default=ROUNDS, metavar="N", help=f"(default: {ROUNDS})"
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="auto",
        help="count instructions, which needs TCG, or measure time (default: instructions under TCG)",
    )
    parser.add_argument("--output", type=given_path, metavar="DIR", help="(default: out/bench-KERNEL)")
    parser.add_argument("--list", action="store_true", help="print all monitors and workloads")
    parser.add_argument(
        "--from",
        dest="sources",
        action="append",
        type=given_path,
        default=[],
        metavar="FILE",
        help="measure nothing; print the figures of this bench.json",
    )
    parser.add_argument(
        "--page", type=given_path, metavar="FILE", help="also write the page of all --from files"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Measure, or print earlier figures; return 0."""
    if arguments.page and not arguments.sources:
        raise ConfigError(
            "--page needs --from", hint="harness bench --from out/bench-6.1 --page docs/cost.md"
        )
    if arguments.list:
        _list()
    elif arguments.sources:
        _print_earlier(arguments)
    else:
        _measure(arguments)
    return 0


def _list() -> None:
    from harness.bench.monitors import MONITORS
    from harness.bench.workloads import WORKLOADS

    for title, entries in (("monitors", MONITORS), ("workloads", WORKLOADS)):
        sys.stdout.write(f"{title}:\n")
        for entry in entries:
            sys.stdout.write(f"  {entry.name:<20} {entry.about}\n")


def _print_earlier(arguments: argparse.Namespace) -> None:
    from harness.bench import model, page

    found = page.joined([model.load(path) for path in arguments.sources])
    for bench in found:
        _print(bench)
    if arguments.page:
        page.write(found, arguments.page)


def repeatable(argv: Sequence[str]) -> list[str]:
    """Return a command line without what belongs to one host: the folder of its results, and --debug."""
    words = [word for word in argv if word != "--debug" and not word.startswith("--output=")]
    if "--output" in words:
        at = words.index("--output")
        del words[at : at + 2]
    return words


def _print(bench: Bench) -> None:
    from harness.bench import table

    sys.stdout.write(f"\n{table.conditions(bench)}")
    for title, rows in table.tables(bench):
        sys.stdout.write(f"\n{title}\n{table.plain(rows)}")


def _measure(arguments: argparse.Namespace) -> None:
    from harness.bench import page, rounds
    from harness.bench.session import Session, chosen_clock
    from harness.host.signals import ending
    from harness.run.run import Options, Run

    monitors = rounds.chosen_monitors(arguments.monitor)
    workloads = rounds.chosen_workloads(arguments.workload)
    if arguments.accelerator != "auto":
        chosen_clock(arguments.clock, arguments.accelerator)
    with contextlib.closing(options.bench(arguments)) as lab, booted.on_stderr() as progress:
        wanted = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
        arguments.vcpus, arguments.cmdline = 1, ""  # the clock that counts instructions allows one processor
        plan = booted.one_machine(Run(wanted, lab).plan, arguments)
        folder = page.folder(arguments.output or Path("out") / f"bench-{plan.cells[0].kernel.name}")
        session = Session(lab, plan, arguments.clock, progress)
        with ending(lambda _why: None, math.inf, ""):
            session.prepare()
            begun = session.begin(monitors, workloads, repeatable(arguments.argv))
            for found in session.play(begun, monitors, workloads, arguments.rounds):
                page.save(found, folder)
    _print(found)
    sys.stdout.write(f"\n{folder}: {', '.join(page.FILES)}\n")
