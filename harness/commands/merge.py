"""Join the output folders of all shards; fails if a planned test is in none of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from harness import report
from harness.errors import ConfigError, IncompleteError
from harness.host import files
from harness.plan import quantities, shards
from harness.report import history
from harness.report.terminal import print_results
from harness.results import merge, results_file, shard_folders
from harness.results.model import Results
from harness.results.shard_folders import Shard
from harness.run.options import given_path, typed

WITHIN_S = (
    16 * 3600.0
)  # less than from one night to the next; six shards on one emulating host take ten hours


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shards", type=given_path, nargs="+", metavar="DIR", help="output folder of a shard")
    parser.add_argument("--output", type=given_path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--plan",
        type=given_path,
        metavar="FILE",
        help="the plan before it was split, from `harness plan --json`; without it the shards themselves say "
        "which are missing",
    )
    parser.add_argument(
        "--within",
        type=typed(quantities.seconds),
        default=WITHIN_S,
        metavar="TIME",
        help="how far apart the shards of one run may have begun (default: 16h)",
    )
    parser.add_argument(
        "--history",
        type=given_path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder with earlier results or a history.json, if it exists; the reports show the last runs",
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
    merge.check_starts(found, arguments.within)
    given = shard_folders.read_plan(arguments.plan) if arguments.plan else None
    if given and given.shard:
        raise ConfigError(
            f"{arguments.plan}: the plan of shard {given.shard} only",
            hint="give the whole plan, from `harness plan --json`, or leave --plan out",
        )
    if given is None:
        problems += shards.absent({str(shard.folder): shard.plan for shard in found})
    plan = merge.whole_plan(found, given)
    if problems and given is None:  # the hook sets and tests that these lack may be in the others
        plan = plan.model_copy(update={"exercise": ()})
    merged = merge.merge(plan, found, problems)
    past = history.read(path for path in arguments.history if path.exists())

    def write_reports(results: Results, folder: Path) -> None:
        files.write_atomic(folder / history.FILE, history.joined(past, results).model_dump_json() + "\n")
        results_file.write(results, folder)
        report.write_all(results, folder)

    shard_folders.write(merged, plan, found, arguments.output, write_reports)
    print_results(Console(), merged, str(arguments.output))
    if problems := [*problems, *merge.missing(plan, found)]:
        raise IncompleteError("\n".join(problems))
    return merged.run.exit_code
