"""Boot one kernel, run one command there; its output and exit code are ours."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from harness.commands import booted
from harness.errors import ConfigError, InfrastructureError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    booted.configure(parser)
    parser.add_argument(
        "--put", action="append", type=Path, default=[], metavar="FILE", help="copy to /root/, mode kept"
    )
    parser.add_argument("--timeout", type=float, default=600.0, metavar="SECONDS", help="(default: 600)")
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="after --")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command in the guest; returns its status."""
    for path in arguments.put:
        if not path.is_file():
            raise ConfigError(f"--put {path}: no such file")
    with booted.booted(arguments) as machine:
        for path in arguments.put:
            machine.guest.put(path, f"/root/{path.name}", path.stat().st_mode & 0o777)
        try:
            done = machine.guest.run(arguments.words, arguments.timeout)
        except InfrastructureError as error:
            death = machine.death()
            raise InfrastructureError(death.detail if death else error.message) from error
    # Bytes pass as they are: this is the command's output, not ours.
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.flush()
    sys.stderr.buffer.write(done.stderr)
    return done.status
