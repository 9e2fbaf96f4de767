"""Print what the last runs found: red since when, flaky, how long, and how many verified instructions."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from harness.host import files
from harness.plan import checked
from harness.plan.plan import whole_night
from harness.report import history, history_text
from harness.run.options import given_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "runs",
        type=given_path,
        nargs="+",
        metavar="DIR",
        help="a run's folder, a results.json or history.json",
    )
    parser.add_argument("--all", action="store_true", help="also tests that were always as expected")
    parser.add_argument("--json", action="store_true", help="print history.json")
    parser.add_argument("--output", type=given_path, metavar="DIR", help="also write history.json there")
    parser.add_argument(
        "--times",
        type=given_path,
        metavar="FILE",
        help="write the usual durations, such as matrix.times, by which shards are made equal",
    )
    parser.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")


def execute(arguments: argparse.Namespace) -> int:
    """Print the history; return 0. Raises ConfigError for what is no run."""
    known = history.read(arguments.runs)
    text = known.model_dump_json() + "\n"
    if arguments.output:
        files.write_output(arguments.output / history.FILE, text)
    if arguments.times:
        cells = whole_night(checked.load(arguments.matrix)).cells
        files.write_output(arguments.times, json.dumps(history.times(known, cells), indent=0) + "\n")
    sys.stdout.write(text if arguments.json else history_text.render(known, every=arguments.all))
    return 0
