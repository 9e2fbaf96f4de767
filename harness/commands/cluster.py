"""Make the keys that protect a cluster."""

from __future__ import annotations

import argparse
import sys

from harness.run.options import given_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    keys = actions.add_parser("keys", help="write a certificate authority and a pair for each role")
    keys.add_argument("folder", type=given_path, metavar="DIR", help="a new folder")


def execute(arguments: argparse.Namespace) -> int:
    """Write the keys, and print what each file is for."""
    from harness.cluster import keys

    for path in keys.make(arguments.folder):
        sys.stdout.write(f"{path}\n")
    sys.stderr.write("whoever has one of these files can run code on every host of the cluster\n")
    return 0
