"""Offer this host to a cluster: start workers that run machines for `harness run --cluster`."""

from __future__ import annotations

import argparse
import sys

from harness.commands import options
from harness.commands.clustered import add_keys
from harness.errors import ConfigError
from harness.plan import quantities
from harness.run.options import given_text, typed


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "scheduler",
        nargs="?",
        type=given_text,
        metavar="SCHEDULER",
        help="tls://HOST:PORT or a scheduler file",
    )
    add_keys(parser)
    parser.add_argument(
        "--slots",
        type=typed(quantities.count),
        metavar="N",
        help="machines at once (default: as the host allows)",
    )
    parser.add_argument(
        "--name", type=given_text, metavar="NAME", help="this host in results (default: its network name)"
    )
    parser.add_argument("--facts", action="store_true", help="print what a worker here would offer, and exit")


def execute(arguments: argparse.Namespace) -> int:
    """Run workers until a signal; return 0, or 3 if the scheduler was lost."""
    from harness.cluster import facts, nannies

    if arguments.facts:
        arguments.unlocked, arguments.cold, arguments.mirror = True, False, ""
        arguments.connect, arguments.accelerator = "", "auto"
        sys.stdout.write(facts.of_host(options.bench(arguments)).model_dump_json() + "\n")
        return 0
    if not arguments.scheduler:
        raise ConfigError("name the scheduler", hint="harness worker tls://HOST:8786 --keys DIR")
    return nannies.serve(arguments.scheduler, arguments.keys, arguments.slots, arguments.name)
