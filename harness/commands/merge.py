"""Join the output folders of all shards; fails if a planned test is in none of them."""

from __future__ import annotations

import argparse

from rich.console import Console

from harness import report
from harness.errors import ConfigError, IncompleteError
from harness.report.terminal import print_results
from harness.results import merge, shard_folders
from harness.results.shard_folders import Shard
from harness.run.options import given_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shards", type=given_path, nargs="+", metavar="DIR", help="output folder of a shard")
    parser.add_argument("--output", type=given_path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--plan",
        type=given_path,
        metavar="FILE",
        help="the plan before it was split, from `harness plan --json`; without it a missing shard is not "
        "noticed",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Merge; return the exit code of the merged run.

    Raises IncompleteError if a part is missing, and ConfigError if two folders have the same results.
    """
    problems: list[str] = []
    found: list[Shard] = []
    for folder in arguments.shards:
        try:
            shard = shard_folders.read(folder)
        except IncompleteError as error:
            problems.append(error.message)
            continue
        if same := next((other.folder for other in found if other.results == shard.results), None):
            raise ConfigError(f"{folder}: the same shard as {same}", hint="name each shard once")
        found.append(shard)
    if not found:
        raise IncompleteError("\n".join(problems))
    given = shard_folders.read_plan(arguments.plan) if arguments.plan else None
    plan = merge.whole_plan(found, given)
    merged = merge.merge(plan, found, problems)
    shard_folders.write(merged, plan, found, arguments.output, report.write_all)
    print_results(Console(), merged, str(arguments.output))
    if problems := [*problems, *merge.missing(plan, found)]:
        raise IncompleteError("\n".join(problems))
    return merged.run.exit_code
