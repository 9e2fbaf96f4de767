"""`harness run` on a cluster: its options, the client, the rest of an earlier run, and a worker's part."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console

from harness import report
from harness.commands import options, playing
from harness.errors import ConfigError
from harness.host import paths
from harness.report.terminal import print_results
from harness.run.options import SELECTORS, GivenText, given_path
from harness.run.run import Run, options_of
from harness.run.view import View

# Options of `harness run` that have no meaning on other hosts, with their values if they are not given.
_LOCAL = {
    "--watch": False,
    "--gdb": False,
    "--keep-on-fail": False,
    "--connect": "",
    "--workers": "auto",
    "--": [],
}
# Those that have no meaning for the rest of an earlier run, which has its plan and its folder.
_PLANNING: dict[str, object] = {
    **{option.flag: [] for option in SELECTORS},
    "--shard": "",
    "--must-pass": False,
    "--output": None,
    "--watch": False,
    "--gdb": False,
}

# Those that the first run of a cluster has decided for all its machines.
_KNOWN: dict[str, object] = {
    "--accelerator": "auto",
    "--cold": False,
    "--mirror": "",
    "--unlocked": False,
    "--matrix": Path("matrix.yaml"),
}


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options of `harness run` that concern a cluster."""
    parser.add_argument(
        "--cluster",
        action=GivenText,
        metavar="SPEC",
        default="",
        help="run on local:N, tls://HOST:PORT or a scheduler file",
    )
    add_keys(parser)
    parser.add_argument(
        "--resume",
        type=given_path,
        metavar="DIR",
        help="run what has no result in the folder of an earlier run",
    )
    parser.add_argument("--part", type=given_path, metavar="DIR", help=argparse.SUPPRESS)  # for workers


def add_keys(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the keys of a cluster."""
    parser.add_argument("--keys", type=given_path, metavar="DIR", help="keys from `harness cluster keys`")


def run(arguments: argparse.Namespace) -> int:
    """Run on a cluster; return the exit code of the run."""
    from harness.cluster import session
    from harness.cluster.part import Settings
    from harness.cluster.received import complete

    _refuse(arguments, _LOCAL, "not with --cluster, whose machines are on other hosts")
    if arguments.resume:
        _refuse(arguments, _KNOWN, "not with --resume of a run with --cluster, whose first part decided it")
        place = paths.real(arguments.resume)  # `out/latest` may lead elsewhere meanwhile
        wanted, known = session.options_of_rest(place, arguments.argv, arguments.deadline)
        assert wanted.plan
        if finished := complete(place, wanted.plan):
            print_results(Console(), finished, str(place))
            return finished.run.exit_code
        cluster, keys = arguments.cluster or known.cluster, arguments.keys or known.keys
        make = session.known(known)
    else:
        wanted = options_of(vars(arguments), arguments.matrix, arguments.argv)
        cluster, keys = arguments.cluster, arguments.keys
        settings = Settings(
            accelerator=arguments.accelerator,
            cold=arguments.cold,
            mirror=arguments.mirror,
            limit_s=arguments.deadline,
        )
        make = session.new(cluster, keys, settings)
    matrix_run = Run(wanted, options.bench(arguments), report.write_all)

    def play(view: View) -> bool:
        session.play(matrix_run, view, make, cluster, keys)
        return False

    return playing.played(matrix_run, Console(), play)


def part(arguments: argparse.Namespace, play: Callable[[Run, View], bool]) -> int:
    """Run one machine for a worker by `play`, with events as JSON on stdout; return the exit code."""
    from harness.cluster import child, wire
    from harness.cluster import part as parts
    from harness.host.cache import Cache
    from harness.kernels import ResolvedKernel
    from harness.lab import provenance, taken

    turn = child.turn()
    received = parts.read(arguments.part)
    arguments.matrix = arguments.part / parts.PLAN  # the lock lies beside it
    arguments.cold, arguments.accelerator = received.settings.cold, received.settings.accelerator
    arguments.mirror = received.settings.mirror
    bench = options.bench(arguments)
    if received.agent and parts.AGENT in received.blobs:
        provenance.adopt(received.agent, parts.bundle(arguments.part), Cache())
        bench.agent = received.agent
    if received.kernel:
        kernel = ResolvedKernel.from_plain(received.kernel)
        taken.adopt(kernel, arguments.part / parts.KERNEL, Cache())
        bench.taken = {received.machine: kernel}
    wanted = parts.options(received, arguments.part, arguments.output)
    matrix_run = Run(wanted, bench)
    matrix_run.turn = turn
    return playing.quietly(matrix_run, lambda: play(matrix_run, wire.Writer(sys.stdout)))


def check_resumed(arguments: argparse.Namespace) -> None:
    """Raise ConfigError for an option that has no meaning with --resume."""
    _refuse(arguments, _PLANNING, "not with --resume, which runs the plan of the earlier run in its folder")


def _refuse(arguments: argparse.Namespace, unset: Mapping[str, object], why: str) -> None:
    for option, value in unset.items():
        name = "words" if option == "--" else option.removeprefix("--").replace("-", "_")
        if getattr(arguments, name) != value:
            raise ConfigError(f"{'options of pytest' if option == '--' else option}: {why}")
