"""Boot one kernel and run one command in it; stdin, output and exit status are the command's, as with ssh."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.commands import booted
from harness.errors import ConfigError, InfrastructureError
from harness.plan import quantities
from harness.run.options import given_path, typed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    booted.configure(parser)
    parser.add_argument(
        "--put",
        action="append",
        type=given_path,
        default=[],
        metavar="FILE",
        help="copy to /root/ with its mode",
    )
    parser.add_argument(
        "--timeout",
        type=typed(quantities.seconds),
        default=math.inf,
        metavar="TIME",
        help="end the command after 90, 15m or 2h (default: no limit)",
    )
    parser.add_argument("words", nargs="+", metavar="COMMAND", help="after --")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command in the guest; return its status."""
    _check_files(arguments.put)
    with booted.booted(arguments) as machine:
        for path in arguments.put:
            machine.guest.put(path, f"/root/{path.name}", path.stat().st_mode & 0o777)
        try:
            return machine.guest.stream(
                arguments.words, _write, timeout_s=arguments.timeout, stdin=_stdin(), name=arguments.words[0]
            )
        except InfrastructureError as error:
            death = machine.death()
            raise InfrastructureError(str(death) if death else error.message) from error


def _check_files(paths: Sequence[Path]) -> None:
    """Raise ConfigError for a file that cannot be copied, before anything boots."""
    names = [path.name for path in paths]
    for path in paths:
        if not path.is_file():
            problem = "not a regular file" if path.exists() else "no such file"
            raise ConfigError(f"--put {path}: {problem}")
        if names.count(path.name) > 1:
            raise ConfigError(f"--put {path}: two files are named {path.name}", hint="rename one of them")


def _write(stream: int, data: bytes) -> None:
    """Write the command's bytes unchanged to our stream with the same number, without buffering."""
    left = memoryview(data)
    while left:
        left = left[os.write(stream, left) :]


def _stdin() -> int | None:
    """Return our standard input; None if the caller closed it."""
    return None if sys.stdin is None else 0
