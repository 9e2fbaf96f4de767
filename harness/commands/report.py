"""Write the reports of a run again from its results.json."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from rich.console import Console

from harness import report
from harness.errors import ConfigError, IncompleteError
from harness.host import files
from harness.plan import checked
from harness.plan.plan import Plan, whole_night
from harness.report import facts, github, night, tables
from harness.report.terminal import print_results
from harness.results import agreement, folder, model, results_file, scenarios
from harness.run.options import given_path

PAGE_BYTES = 4 << 20  # of a page with tables


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "results", type=given_path, nargs="?", metavar="RESULTS", help="results.json, or its folder"
    )
    parser.add_argument(
        "--annotations", action="store_true", help="print ::error:: lines (always in a GitHub workflow)"
    )
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of results.json")
    parser.add_argument(
        "--artifact",
        type=_address,
        metavar="URL",
        help="address of an archive of the folder, linked from summary.md when it is a job's summary",
    )
    parser.add_argument(
        "--tables",
        type=given_path,
        metavar="FILE",
        help="write only the tables of the documentation into this page, such as docs/tables.md, and their "
        "facts beside it; RESULTS are a complete, green night of the matrix, or such facts",
    )
    parser.add_argument(
        "--matrix",
        type=given_path,
        default=Path("matrix.yaml"),
        metavar="FILE",
        help="the matrix whose night --tables expects (default: matrix.yaml)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write the reports beside results.json; return the exit code of that run."""
    if arguments.schema:
        sys.stdout.write(model.schema_text())
        return 0
    path = arguments.results or Path("out/latest")
    path = path / "results.json" if path.is_dir() else path
    if arguments.tables:
        write_tables(path, arguments.tables, arguments.matrix)
        return 0
    found = _load(path)
    report.write_all(found, path.parent, arguments.artifact or "")
    print_results(Console(), found, str(path.parent))
    github.show(found, sys.stdout, forced=arguments.annotations)
    check_plan(path.with_name("plan.json"), found)
    return found.run.exit_code


def _address(word: str) -> str:
    if not re.fullmatch(r"https://[\w.:/%?=&-]+", word):
        raise argparse.ArgumentTypeError(f"invalid address {word!r} (use https://...)")
    return word


def write_tables(path: Path, page: Path, matrix: Path) -> None:
    """Write the page's tables from a night or from stored facts; store the facts beside the page.

    Raises ConfigError for a run that is not a complete, green night of the matrix.
    """
    expected = checked.load(matrix)
    known = facts.stored(path)
    if known is None:
        found = _load(path)
        plan = whole_night(expected)
        night.check(found, plan)
        known = facts.of_run(night.in_order(found, plan))
    night.check_facts(known)
    try:
        text = files.read_regular(page, PAGE_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{page}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{page}: not UTF-8") from error
    files.write_output(page.with_suffix(".json"), known.to_json())
    left_out = night.left_out(known, expected)
    files.write_output(page, tables.render(text, known, scenarios.of_catalogue(), left_out))


def _load(path: Path) -> model.Results:
    """Read results that no other user could have written. Raises ConfigError."""
    folder.check_readable(path.parent)
    return results_file.load(path)


def check_plan(path: Path, found: model.Results) -> None:
    """Compare results with the plan beside them; raises IncompleteError if they differ."""
    try:
        plan = Plan.model_validate_json(results_file.read_bounded(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a valid plan") from error
    if lines := agreement.disagreements(plan, found):
        raise IncompleteError("\n".join(lines))
