"""Remove what runs left: machines of dead runs, and cached kernels and images."""

from __future__ import annotations

import argparse

from harness.commands.booted import say

DAY_S = 86_400.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--machines", action="store_true", help="only machines, also those that were kept")
    parser.add_argument("--keep", type=int, default=0, metavar="MIB", help="keep so much of the cache")
    parser.add_argument(
        "--older-than", type=float, default=0.0, metavar="DAYS", help="keep what was used since"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Reap, then shrink the cache."""
    from harness.cache import Cache
    from harness.vmbench import VmBench

    for line in VmBench().reap(also_kept=True):
        say(f"reaped what a dead run left: {line}")
    if arguments.machines:
        return 0
    freed = Cache().clean(keep_bytes=arguments.keep << 20, older_than_s=arguments.older_than * DAY_S)
    say(f"freed {freed >> 20} MiB")
    return 0
