"""`agent selftest`: the scenarios on this host, for a person or for a harness."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.selftest import table
from agent.selftest.catalogue import CATALOGUE, Scenario, select, unknown
from agent.selftest.protocol import Load

if TYPE_CHECKING:
    from agent.selftest.runner import Stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--serve", action="store_true", help="answer a harness on stdin and stdout")
    parser.add_argument("--list", action="store_true", help="print what there is to run, and what it proves")
    parser.add_argument(
        "--test", action="append", default=[], metavar="GLOB", help="run these; !GLOB leaves out; may repeat"
    )
    parser.add_argument("--hookset", default="auto", metavar="NAME", help="auto, lsm, fentry, kprobe")


def run(arguments: argparse.Namespace) -> int:
    """Run the command; the status is 0 when nothing failed, 1 when something did."""
    chosen = _chosen(arguments.test)
    if arguments.list:
        sys.stdout.writelines(f"{scenario.name:<20} {scenario.proves}\n" for scenario in chosen)
        return 0
    from agent.selftest.loaded import load  # what it needs of the kernel takes its time to import

    if arguments.serve:
        from agent.selftest.server import serve

        serve(load)
        return 0
    return _run_here(chosen, load(Load(0, hookset=arguments.hookset)))


def _chosen(patterns: list[str]) -> tuple[Scenario, ...]:
    if wrong := unknown(patterns):
        families = sorted({f"{scenario.family}.*" for scenario in CATALOGUE})
        raise UsageError(f"no scenario is called {wrong[0]!r}", hint=f"there are {', '.join(families)}")
    if not (chosen := select(patterns)):
        raise UsageError("no scenario is left to run", hint="give one --test GLOB without '!'")
    return chosen


def _run_here(scenarios: Iterable[Scenario], stage: Stage) -> int:
    shown = sys.stderr.isatty()
    with closing(stage.subject):
        results = []
        for scenario in scenarios:
            results.append(stage.run(scenario))
            if shown:
                sys.stderr.write(f"\r{table.progress(results[-1]):<{table.WIDTH}}")
        loaded = stage.subject.facts()
    if shown:
        sys.stderr.write(f"\r{'':<{table.WIDTH}}\r")
    sys.stdout.write(table.report(results, loaded))
    return 1 if any(ran.verdict == "FAIL" for ran in results) else 0
