"""`agent selftest`: run scenarios on this host, for a user or for a harness."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING

from agent.errors import UsageError
from agent.selftest import summary
from agent.selftest.catalogue import CATALOGUE, Scenario, select, unknown
from agent.selftest.protocol import Load

if TYPE_CHECKING:
    from agent.selftest.runner import Stage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("--serve", action="store_true", help="serve a harness on stdin and stdout")
    parser.add_argument("--list", action="store_true", help="list scenarios and what each proves")
    parser.add_argument(
        "--test",
        action="append",
        default=[],
        metavar="GLOB",
        help="run these scenarios; !GLOB excludes; can be repeated",
    )
    parser.add_argument(
        "--hookset", default="auto", metavar="NAME", help="hook set such as kprobe (default: auto)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return 0, or 1 if a scenario failed."""
    chosen = _chosen(arguments.test)
    if arguments.list:
        sys.stdout.writelines(f"{scenario.name:<20} {scenario.proves}\n" for scenario in chosen)
        return 0
    from agent.selftest.loaded import load  # lazy: slow to import

    if arguments.serve:
        from agent.selftest.server import serve

        serve(load)
        return 0
    return _run_here(chosen, load(Load(0, hookset=arguments.hookset)))


def _chosen(patterns: list[str]) -> tuple[Scenario, ...]:
    if wrong := unknown(patterns):
        families = sorted({f"{scenario.family}.*" for scenario in CATALOGUE})
        raise UsageError(f"no scenario matches {wrong[0]!r}", hint=f"families: {', '.join(families)}")
    if not (chosen := select(patterns)):
        raise UsageError("no scenario is selected", hint="add a --test GLOB without '!'")
    return chosen


def _run_here(scenarios: Iterable[Scenario], stage: Stage) -> int:
    show_progress = sys.stderr.isatty()
    with closing(stage.subject):
        results = []
        for scenario in scenarios:
            results.append(stage.run(scenario))
            if show_progress:
                sys.stderr.write(f"\r{summary.progress(results[-1]):<{summary.WIDTH}}")
        loaded = stage.subject.facts()
    if show_progress:
        sys.stderr.write(f"\r{'':<{summary.WIDTH}}\r")
    sys.stdout.write(summary.report(results, loaded))
    return 1 if any(result.verdict == "FAIL" for result in results) else 0
