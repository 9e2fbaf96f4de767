"""Boot one kernel and open a shell in it, or enter a machine that a run kept."""

from __future__ import annotations

import argparse

from harness.commands import booted
from harness.commands.options import add_gdb


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    booted.configure(parser)
    add_gdb(parser)
    parser.add_argument(
        "--attach",
        nargs="?",
        const="",
        default=None,
        metavar="CELL",
        help="into a machine that `harness run --keep-on-fail` left, by its cell or name",
    )


def execute(arguments: argparse.Namespace) -> int:
    """A shell until it is left; returns its status."""
    from harness.guest.shell import enter, interactive

    if arguments.attach is not None:
        from harness.vm import kept

        return enter(kept.find(arguments.attach).ssh)
    with booted.booted(arguments) as machine:
        booted.say(
            f"{' '.join(machine.guest.run(['uname', '-rm']).stdout.decode().split())}; leave with exit"
        )
        return interactive(machine.machine.endpoint)
