"""Boot one kernel and open a shell in it, or enter a kept machine."""

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
        help="enter a machine that `harness run --keep-on-fail` kept, by its cell or name",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Open a shell; return its exit status."""
    from harness.guest.shell import enter, interactive

    if arguments.attach is not None:
        from harness.vm import kept, ownership

        return enter(kept.find(arguments.attach, ownership.run_directories()).ssh)
    with booted.booted(arguments) as machine:
        booted.print_stderr(
            f"{' '.join(machine.guest.run(['uname', '-rm']).stdout.decode().split())}; leave with exit"
        )
        return interactive(machine.machine.endpoint)
