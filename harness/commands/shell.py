"""Boot one kernel and open a shell in it."""

from __future__ import annotations

import argparse

from harness.commands import booted


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    booted.configure(parser)


def execute(arguments: argparse.Namespace) -> int:
    """A shell until it is left; returns its status."""
    from harness.guest.shell import interactive

    with booted.booted(arguments) as machine:
        booted.say(
            f"{' '.join(machine.guest.run(['uname', '-rm']).stdout.decode().split())}; leave with exit"
        )
        return interactive(machine.machine.endpoint)
