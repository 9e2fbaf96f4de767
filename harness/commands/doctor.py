"""Check whether this host can run the matrix, and print how to fix what prevents it."""

from __future__ import annotations

import argparse

from harness.run.options import CONNECT, add_to


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_to(parser, CONNECT)


def execute(arguments: argparse.Namespace) -> int:
    """Check; return 0, or 3 if a check failed."""
    from harness.commands.doctor_checks import main

    return main(arguments.connect)
