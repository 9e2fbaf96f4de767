"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harness.plan import quantities
from harness.plan.plan import Selectors

if TYPE_CHECKING:
    from harness.lab.lab import VmBench

T = TypeVar("T")

SELECTORS = {
    "kernel": ("GLOB", "kernels by name in the matrix or by release"),
    "hookset": ("NAME", "hook sets"),
    "test": ("GLOB", "tests; !GLOB leaves out"),
    "arch": ("ARCH", "architectures"),
    "tag": ("TAG", "also entries of the matrix that carry this tag"),
}


def add_matrix(parser: argparse.ArgumentParser, *selectors: str) -> None:
    """`--matrix` and the named selectors, each of which may repeat."""
    parser.add_argument("--matrix", type=Path, default=Path("matrix.yaml"), metavar="FILE")
    for name in selectors or tuple(SELECTORS):
        metavar, text = SELECTORS[name]
        parser.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)


def add_connect(parser: argparse.ArgumentParser) -> None:
    """`--connect`, as libvirt names hypervisors."""
    parser.add_argument("--connect", default="", metavar="URI", help="libvirt (default: qemu:///embed)")


def add_accelerator(parser: argparse.ArgumentParser) -> None:
    """`--accelerator`, of commands that boot machines."""
    from harness.host.acceleration import CHOICES

    text = "KVM, TCG (emulation), or the one that this host runs faster (default: auto)"
    parser.add_argument("--accelerator", choices=CHOICES, default="auto", help=text)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """`--connect`, and which kernels are taken."""
    add_connect(parser)
    add_accelerator(parser)
    add_mirror(parser)
    parser.add_argument(
        "--unlocked", action="store_true", help="take the newest kernels, whatever matrix.lock says"
    )
    parser.add_argument("--cold", action="store_true", help="boot every machine, restore none")


def add_mirror(parser: argparse.ArgumentParser) -> None:
    """`--mirror`; whoever adds it calls `use_mirror`."""
    text = "Debian's main archive (default: as this host's apt has it)"
    parser.add_argument("--mirror", default="", metavar="URL", help=text)


def use_mirror(arguments: argparse.Namespace) -> None:
    """Let everything that asks a repository ask the one of `--mirror`."""
    if arguments.mirror:
        from harness.kernels import repositories

        repositories.prefer(arguments.mirror.rstrip("/"))


def bench(arguments: argparse.Namespace) -> VmBench:
    """The bench that a command line with `add_matrix` and `add_bench` asks for."""
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
    """`--cmdline`, `--memory` and `--vcpus`, of commands that boot one machine."""
    parser.add_argument(
        "--cmdline", default="", metavar="WORDS", help="add these to the kernel's command line"
    )
    parser.add_argument("--memory", type=typed(quantities.mebibytes), metavar="SIZE", help="(default: 512M)")
    parser.add_argument(
        "--vcpus", type=typed(quantities.count), metavar="N", help="processors (default: as in the matrix)"
    )


def typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A `type` for argparse that prints the message of a ValueError."""

    def parsed(word: str) -> T:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def add_gdb(parser: argparse.ArgumentParser) -> None:
    """`--gdb`, of commands that boot one machine."""
    text = "open QEMU's kernel debugging port on 127.0.0.1, and say the line that attaches"
    parser.add_argument("--gdb", action="store_true", help=text)


def lock_path(arguments: argparse.Namespace) -> Path:
    """Where the lock of the matrix is, or would be."""
    matrix: Path = arguments.matrix
    return matrix.absolute().with_name("matrix.lock")


def selectors(arguments: argparse.Namespace) -> Selectors:
    """What the selectors of a command line ask for."""
    return Selectors(**{name: tuple(getattr(arguments, name, ())) for name in SELECTORS})


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output`, which both commands that run cells have."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="write plan, results and reports there (default: out/<run id>, with out/latest)",
    )
