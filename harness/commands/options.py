"""Options that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harness.plan import quantities
from harness.plan.plan import Selectors
from harness.run.options import BENCH, MIRROR, SELECTORS, GivenText, add_to, given_path, typed

if TYPE_CHECKING:
    from harness.lab.lab import VmBench


def add_matrix(parser: argparse.ArgumentParser, *selectors: str) -> None:
    """Add `--matrix` and the named selectors (default: all); a selector may repeat."""
    parser.add_argument("--matrix", type=given_path, default=Path("matrix.yaml"), metavar="FILE")
    add_to(parser, *(option for option in SELECTORS if not selectors or option.name in selectors))


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose libvirt, the accelerator and the kernels' versions."""
    add_to(parser, *BENCH)


def add_mirror(parser: argparse.ArgumentParser) -> None:
    """Add `--mirror`; a command with this option calls `use_mirror`."""
    add_to(parser, MIRROR)


def use_mirror(arguments: argparse.Namespace) -> None:
    """Use the repository of `--mirror` in this process."""
    if arguments.mirror:
        from harness.kernels import repositories

        repositories.prefer(arguments.mirror.rstrip("/"))


def bench(arguments: argparse.Namespace) -> VmBench:
    """Return the bench for a command line with `add_matrix` and `add_bench`."""
    from harness.lab.lab import VmBench

    use_mirror(arguments)
    lock = None if arguments.unlocked else lock_path(arguments)
    gdb = getattr(arguments, "gdb", False)
    found = VmBench(arguments.connect, lock, cold=arguments.cold or gdb, accelerator=arguments.accelerator)
    found.gdb = gdb
    if memory := getattr(arguments, "memory", None):
        found.memory_mib = memory
    return found


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add `--cmdline`, `--memory` and `--vcpus`, for commands that boot one machine."""
    parser.add_argument(
        "--cmdline", action=GivenText, default="", metavar="WORDS", help="append to the kernel's command line"
    )
    parser.add_argument("--memory", type=typed(quantities.mebibytes), metavar="SIZE", help="(default: 512M)")
    parser.add_argument(
        "--vcpus",
        type=typed(quantities.processors),
        metavar="N",
        help="processors (default: as in the matrix)",
    )


def add_gdb(parser: argparse.ArgumentParser) -> None:
    """Add `--gdb`, for commands that boot one machine."""
    text = "open QEMU's kernel debugging port on 127.0.0.1, and print the command that attaches gdb"
    parser.add_argument("--gdb", action="store_true", help=text)


def lock_path(arguments: argparse.Namespace) -> Path:
    """Return the path of the matrix's lock, which may not exist."""
    matrix: Path = arguments.matrix
    return matrix.absolute().parent / "matrix.lock"


def selectors(arguments: argparse.Namespace) -> Selectors:
    """Return the selectors of a command line."""
    return Selectors(**{option.name: tuple(getattr(arguments, option.attribute, ())) for option in SELECTORS})
