"""Check whether this host can run the matrix, and print how to fix what prevents it."""

from __future__ import annotations

import argparse

from harness.run.options import CONNECT, add_to, given_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_to(parser, CONNECT)
    parser.add_argument(
        "--matrix",
        type=given_path,
        metavar="FILE",
        help="also require what is needed to emulate the guests and to build the kernels of this matrix",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Check; return 0, or 3 if a check failed. Raises ConfigError for a wrong matrix."""
    from harness.commands.doctor_checks import main
    from harness.plan import checked, plan

    if not arguments.matrix:
        return main(arguments.connect)
    cells = plan.make(checked.load(arguments.matrix), plan.Selectors()).cells
    arches = frozenset(cell.arch for cell in cells)
    return main(arguments.connect, arches, builds=any(cell.kernel.fragment for cell in cells))
