"""Say whether this host can run the matrix, and what to do where it cannot."""

from __future__ import annotations

import argparse

from harness.commands.options import add_connect


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_connect(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Check; returns 0 if all is well, else 3."""
    from harness.commands.doctor_checks import main

    return main(arguments.connect)
