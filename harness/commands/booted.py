"""One machine for one command: what `exec` and `shell` share."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.commands import options
from harness.commands.options import add_bench, add_matrix, selectors
from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import Phase, Step
from harness.host.signals import ending
from harness.plan.plan import Plan
from harness.report.lines import UNSAID, Lines
from harness.run.run import Options, Run
from harness.run.slot import BOOT_DEADLINE_S

if TYPE_CHECKING:
    from harness.lab.lab import VmMachine


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a machine."""
    add_matrix(parser, "kernel", "arch", "tag")
    add_bench(parser)
    parser.add_argument(
        "--agent", action="store_true", help="put the agent there too: cd /opt/fim; python3 -m agent selftest"
    )


@contextlib.contextmanager
def booted(arguments: argparse.Namespace) -> Iterator[VmMachine]:
    """The machine that a command line asks for, ready; it is gone afterwards. Raises HarnessError."""
    with contextlib.closing(options.bench(arguments)) as bench, tempfile.TemporaryDirectory() as workdir:
        wanted = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
        plan = one_machine(Run(wanted, bench).plan)
        bench.reap()
        with on_stderr() as progress:
            accelerator, _ = bench.accelerator(plan.cells[0].arch)
            supplies = bench.prepare(plan, accelerator, progress)
        if reason := next(iter(supplies.missing.values()), ""):
            raise InfrastructureError(reason)
        machine = bench.machine(plan.cells[0], supplies, Path(workdir))
        try:
            # SIGTERM as well must not leave a machine behind.
            with ending(lambda _why: None, math.inf, ""):
                _boot(machine, plan.cells[0].machine, agent=arguments.agent)
                yield machine
        finally:
            machine.destroy()


def _boot(machine: VmMachine, name: str, *, agent: bool) -> None:
    with on_stderr() as progress:
        progress(Step(Phase.BOOT, machine=name))
        machine.boot(BOOT_DEADLINE_S)
        if agent:
            progress(Step(Phase.DEPLOY, machine=name))
            machine.deploy()


def one_machine(plan: Plan) -> Plan:
    """The plan without its tests; raises ConfigError unless it is of one machine."""
    machines = plan.machines()
    if len(machines) > 1:
        names = ", ".join(dict.fromkeys(cells[0].kernel.name for cells in machines.values()))
        raise ConfigError(f"which of {names}?", hint="choose one with --kernel NAME")
    return plan.model_copy(update={"cells": (plan.cells[0].model_copy(update={"tests": ()}),)})


def on_stderr() -> Lines:
    """What shows progress while one machine is made: on stderr, because stdout is the guest's."""
    quickly = (*UNSAID, Phase.BOOT, Phase.DEPLOY)  # they have a line only if they take long
    return Lines(Console(stderr=True), prefix="harness: ", unsaid=quickly)


def say(line: str) -> None:
    """Print one line to stderr: stdout is the guest's."""
    sys.stderr.write(f"harness: {line}\n")
