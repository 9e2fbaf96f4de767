"""Say whether this host can run the matrix, and what to do where it cannot."""

from __future__ import annotations

import argparse

from harness.run.options import CONNECT, add_to


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_to(parser, CONNECT)


def execute(arguments: argparse.Namespace) -> int:
    """Check; returns 0 if all is well, else 3."""
    from harness.commands.doctor_checks import main

    return main(arguments.connect)
