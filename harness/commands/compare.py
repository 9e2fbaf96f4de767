"""Report what changed from one run to the next; exits 1 only when the product regressed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.report.compare import text as compare_text
from harness.report.compare.comparison import compare
from harness.results import model
from harness.run.options import given_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    for name in ("old", "new"):
        parser.add_argument(name, type=given_path, metavar=name.upper(), help="results.json, or its folder")
    parser.add_argument("--json", action="store_true", help="print JSON, not Markdown")
    parser.add_argument(
        "--output", type=given_path, metavar="DIR", help="also write compare.md and compare.json there"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Compare; return 1 for a regression, 4 for runs that cannot be compared, else 0. Raises ConfigError."""
    old, new = (model.load(_file(path)) for path in (arguments.old, arguments.new))
    found = compare(old, new)
    texts = {"compare.md": compare_text.to_markdown(found), "compare.json": compare_text.to_json(found)}
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            model.write_atomic(arguments.output / name, text)
    sys.stdout.write(texts["compare.json" if arguments.json else "compare.md"])
    return found.exit_code


def _file(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path
