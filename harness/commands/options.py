"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

from harness.plan import Selectors

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


def selectors(arguments: argparse.Namespace) -> Selectors:
    """What the selectors of a command line ask for."""
    return Selectors(**{name: tuple(getattr(arguments, name, ())) for name in SELECTORS})
