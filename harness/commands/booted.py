"""Boots one machine for one command; shared by `exec` and `shell`."""

from __future__ import annotations

import argparse
import contextlib
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console

from harness.commands import options
from harness.commands.options import add_bench, add_machine, add_matrix, selectors
from harness.errors import ConfigError, InfrastructureError
from harness.guest import sysctl
from harness.host import deadlines
from harness.host.deadlines import Pace
from harness.host.progress import Phase, Step
from harness.host.signals import ending
from harness.plan.cells import Cell
from harness.plan.matrix import Cmdline
from harness.plan.plan import Plan
from harness.report.lines import SILENT, Lines
from harness.run.run import Options, Run

if TYPE_CHECKING:
    from harness.lab.lab import VmBench, VmMachine


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a machine."""
    add_matrix(parser, "kernel", "arch", "tag")
    add_bench(parser)
    add_machine(parser)
    parser.add_argument(
        "--agent", action="store_true", help="also deploy the agent: cd /opt/fim; python3 -m agent selftest"
    )


@contextlib.contextmanager
def booted(arguments: argparse.Namespace, bench: VmBench | None = None) -> Iterator[VmMachine]:
    """Boot the machine of a command line, and destroy it afterwards. Raises HarnessError.

    `bench` is one that is open already and stays open: a process can open the embedded libvirt only once.
    """
    opened = contextlib.nullcontext(bench) if bench else contextlib.closing(options.bench(arguments))
    with opened as bench, tempfile.TemporaryDirectory() as workdir:
        wanted = Options(matrix=arguments.matrix.absolute(), selectors=selectors(arguments))
        plan = one_machine(Run(wanted, bench).plan, arguments)
        bench.reap()
        with on_stderr() as progress:
            accelerator, _ = bench.accelerator(plan.cells[0].arch)
            supplies = bench.prepare(plan, accelerator, progress)
            kinds = {plan.cells[0].arch: accelerator}
            supplies = supplies.model_copy(update={"accelerators": kinds, "unproven": {}})
        if reason := next(iter(supplies.missing.values()), ""):
            raise InfrastructureError(reason)
        machine = bench.machine(plan.cells[0], supplies, Path(workdir))
        try:
            # SIGTERM must not leave a machine behind either.
            with ending(lambda _why: None, math.inf, ""):
                _boot(machine, plan.cells[0].machine, agent=arguments.agent)
                if settings := plan.cells[0].sysctl:
                    sysctl.apply(machine.guest, settings.values, Pace().within(deadlines.SYSCTL_S))
                yield machine
        finally:
            machine.destroy()


def _boot(machine: VmMachine, name: str, *, agent: bool) -> None:
    with on_stderr() as progress:
        progress(Step(Phase.BOOT, machine=name))
        try:
            machine.boot(Pace().within(deadlines.BOOT_S))
        finally:
            for note in machine.notes:
                progress(note)
        if agent:
            progress(Step(Phase.DEPLOY, machine=name))
            machine.deploy()


def one_machine(plan: Plan, arguments: argparse.Namespace) -> Plan:
    """Return the plan without its tests, for one machine with the properties in `arguments`.

    If a kernel has several machines, it is the one without a command line of its own. Raises ConfigError if
    more than one kernel or architecture matches.
    """
    first = {(cell.kernel.name, cell.arch): cell for cell in sorted(plan.cells, key=_special, reverse=True)}
    if len(first) > 1:
        names = ", ".join("-".join(key) for key in sorted(first))
        raise ConfigError(
            f"more than one kernel matches: {names}", hint="choose one with --kernel NAME (and --arch ARCH)"
        )
    cell = next(iter(first.values()))
    kernel = cell.kernel.model_copy(update={"vcpus": arguments.vcpus} if arguments.vcpus else {})
    update = {"kernel": kernel, "cmdline": _cmdline(cell, arguments.cmdline), "tests": ()}
    return plan.model_copy(update={"cells": (cell.model_copy(update=update),)})


def _special(cell: Cell) -> bool:
    return bool(cell.cmdline or cell.sysctl or cell.compiles)


def _cmdline(cell: Cell, words: str) -> Cmdline | None:
    """Return the matrix's addition to the kernel's command line, followed by the user's."""
    if not words:
        return cell.cmdline
    args = " ".join([*([cell.cmdline.args] if cell.cmdline else []), words])
    try:
        return Cmdline(name="custom", args=args)
    except ValidationError as error:
        raise ConfigError("--cmdline: must be at most 512 printable ASCII characters") from error


@contextlib.contextmanager
def on_stderr() -> Iterator[Lines]:
    """Show progress on stderr, because stdout belongs to the guest.

    SIGTERM and SIGHUP end the block as Ctrl-C does; otherwise the build of a kernel would go on.
    """
    silent = (*SILENT, Phase.BOOT, Phase.DEPLOY)  # printed only if they take long
    lines = Lines(Console(stderr=True), prefix="harness: ", silent=silent)
    with ending(lambda _why: None, math.inf, ""), lines as progress:
        yield progress


def print_stderr(line: str) -> None:
    """Print one line to stderr, because stdout belongs to the guest."""
    sys.stderr.write(f"harness: {line}\n")
