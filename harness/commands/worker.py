"""Offer this host to a cluster: start workers that run machines for `harness run --cluster`."""

from __future__ import annotations

import argparse
import gc
import os
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
    parser.add_argument("--children", action="store_true", help=argparse.SUPPRESS)  # for workers


def execute(arguments: argparse.Namespace) -> int:
    """Run workers until a signal; return 0, or 3 if the scheduler was lost."""
    from harness.cluster import facts, nannies

    if arguments.children:
        return _children()
    if arguments.facts:
        arguments.unlocked, arguments.cold, arguments.mirror = True, False, ""
        arguments.connect, arguments.accelerator = "", "auto"
        sys.stdout.write(facts.of_host(options.bench(arguments)).model_dump_json() + "\n")
        return 0
    if not arguments.scheduler:
        raise ConfigError("name the scheduler", hint="harness worker tls://HOST:8786 --keys DIR")
    return nannies.serve(arguments.scheduler, arguments.keys, arguments.slots, arguments.name)


def _children() -> int:
    """Fork a process for each request of the worker, and run its command there.

    Returns 0 in the forking process, once the worker has ended.
    """
    # What a part needs is imported before the first fork.
    import xdist.plugin  # type: ignore[import-untyped] # noqa: F401

    from harness.cluster import forking, part  # noqa: F401
    from harness.commands import clustered, pytest_plugin, run  # noqa: F401
    from harness.lab import lab, provenance, taken  # noqa: F401
    from harness.run import validators
    from harness.run.pytest import plugin  # noqa: F401

    validators.build()
    gc.collect()
    gc.freeze()  # else each child would copy all of this when it collects
    words = forking.serve(sys.stdin.fileno())
    if words is None:
        return 0
    command = run if words[0] == "run" else sys.modules[__name__]
    parser = argparse.ArgumentParser()
    command.configure(parser)
    arguments = parser.parse_args(words[1:])
    arguments.argv = ("harness", *words)
    code = command.execute(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an ordinary exit frees each module, which takes 0.3 s before the next machine can boot
