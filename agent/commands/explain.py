"""`agent explain RULES`: what the kernel will forward for these rules, and which rule stands in the way."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare which rules."""
    parser.add_argument("rules", nargs="+", metavar="RULES", help="policy files, or folders of them")


def run(arguments: argparse.Namespace) -> int:
    """Print the explanation."""
    from agent.explain import command

    return command(arguments.rules)
