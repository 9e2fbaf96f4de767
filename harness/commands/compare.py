"""Report what changed from one run, or one bench, to the next; exits 1 only when the product regressed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.host import files
from harness.report.compare import text as compare_text
from harness.report.compare.comparison import compare
from harness.results import results_file
from harness.results.model import Results
from harness.run.options import given_path

BENCH = "bench.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name in ("old", "new"):
        parser.add_argument(
            name, type=given_path, metavar=name.upper(), help="results.json or bench.json, or its folder"
        )
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument(
        "--output", type=given_path, metavar="DIR", help="also write compare.md and compare.json there"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Compare; return 1 for a regression, 4 for runs that cannot be compared, else 0. Raises ConfigError."""
    if _is_bench(arguments.old) or _is_bench(arguments.new):
        code, texts = _costs(arguments.old, arguments.new)
    else:
        old, new = (
            _without_evidence(results_file.load(_file(path))) for path in (arguments.old, arguments.new)
        )
        found = compare(old, new)
        code = found.exit_code
        texts = {"compare.md": compare_text.to_markdown(found), "compare.json": compare_text.to_json(found)}
    if arguments.output:
        for name, text in texts.items():
            files.write_output(arguments.output / name, text)
    sys.stdout.write(texts["compare.json" if arguments.json else "compare.md"])
    return code


def _is_bench(path: Path) -> bool:
    """Whether a path leads to a bench: results of a run in the same folder take precedence."""
    return path.name == BENCH or (path.is_dir() and not _file(path).exists() and (path / BENCH).exists())


def _without_evidence(results: Results) -> Results:
    """Return results without what is not compared, so that two large runs fit into memory."""
    nothing: dict[str, object] = {"assertions": (), "ledger": {}}
    cells = [
        cell.model_copy(update={"tests": tuple(test.model_copy(update=nothing) for test in cell.tests)})
        for cell in results.cells
    ]
    return results.model_copy(update={"cells": tuple(cells)})


def _costs(old: Path, new: Path) -> tuple[int, dict[str, str]]:
    """Return exit code and texts for two benches."""
    from harness.bench import compare as costs
    from harness.bench import model as benches

    found = costs.compare(benches.load(old), benches.load(new))
    return found.exit_code, {"compare.md": costs.markdown(found), "compare.json": costs.to_json(found)}


def _file(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path
