"""The options of a run, once for `harness run` and for `pytest matrix.yaml`.

`harness run` has them under their names, such as `--kernel`. pytest has them as `--matrix-kernel`, because
names of other plugins must stay free. pytest imports this module at every start: it imports nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.host.acceleration import CHOICES
from harness.plan import quantities


@dataclass(frozen=True)
class Option:
    """An option without its dashes; `settings` are what argparse and pytest call them."""

    name: str
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """As `harness` has it."""
        return f"--{self.name}"

    @property
    def pytest_flag(self) -> str:
        """As pytest has it."""
        return f"--matrix-{self.name}"

    @property
    def attribute(self) -> str:
        """The name of its value in argparse's namespace."""
        return self.name.replace("-", "_")


T = TypeVar("T")


def typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """A `type` for argparse and pytest that prints the message of a ValueError."""

    def parsed(word: str) -> T:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def _repeated(metavar: str) -> Mapping[str, Any]:
    return {"action": "append", "default": [], "metavar": metavar}


def _text(metavar: str) -> Mapping[str, Any]:
    return {"default": "", "metavar": metavar}


_SWITCH: Mapping[str, Any] = {"action": "store_true"}

SELECTORS = (
    Option("kernel", "kernels by name in the matrix or by release", _repeated("GLOB")),
    Option("hookset", "hook sets", _repeated("NAME")),
    Option("test", "tests; !GLOB leaves out", _repeated("GLOB")),
    Option("arch", "architectures", _repeated("ARCH")),
    Option("tag", "also entries of the matrix that carry this tag", _repeated("TAG")),
)
CONNECT = Option("connect", "libvirt (default: qemu:///embed)", _text("URI"))
ACCELERATOR = Option(
    "accelerator",
    "KVM, TCG (emulation), or the one that this host runs faster (default: auto)",
    {"choices": CHOICES, "default": "auto"},
)
MIRROR = Option("mirror", "Debian's main archive (default: as this host's apt has it)", _text("URL"))
UNLOCKED = Option("unlocked", "take the newest kernels, whatever matrix.lock says", _SWITCH)
COLD = Option("cold", "boot every machine, restore none", _SWITCH)
BENCH = (CONNECT, ACCELERATOR, MIRROR, UNLOCKED, COLD)  # where machines come from
OUTPUT = Option(
    "output",
    "write plan, results and reports there (default: out/<run id>, with out/latest)",
    {"type": Path, "metavar": "DIR"},
)
ALL = (
    *SELECTORS,
    *BENCH,
    OUTPUT,
    Option(
        "deadline",
        "of the run: 90, 15m or 2h",
        {"type": typed(quantities.seconds), "default": 0.0, "metavar": "TIME"},
    ),
    Option("shard", "only that part; `harness merge` joins them", _text("I/N")),
    Option("keep-on-fail", "leave the machine of a failed cell, and say how to get in", _SWITCH),
)


def add_to(parser: argparse.ArgumentParser, *options: Option) -> None:
    """Add options of this table to a command of `harness`."""
    for option in options:
        parser.add_argument(option.flag, help=option.help, **option.settings)
