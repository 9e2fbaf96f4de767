"""The options of a run, shared by `harness run` and `pytest matrix.yaml`.

`harness run` has them under their own names, such as `--kernel`, and pytest as `--matrix-kernel`, so that
they do not collide with other plugins. pytest imports this module at every start, so it imports nothing slow.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.host.acceleration import CHOICES
from harness.plan import quantities
from harness.text import is_utf8


@dataclass(frozen=True)
class Option:
    """An option; `name` has no dashes, and `settings` are keyword arguments of argparse and pytest."""

    name: str
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flag(self) -> str:
        """The option of `harness`."""
        return f"--{self.name}"

    @property
    def pytest_flag(self) -> str:
        """The option of pytest."""
        return f"--matrix-{self.name}"

    @property
    def attribute(self) -> str:
        """The name of its value in argparse's namespace."""
        return self.name.replace("-", "_")


T = TypeVar("T")


def typed(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap `parse` as a `type` of argparse and pytest that prints the message of a ValueError."""

    def parsed(word: str) -> T:
        try:
            return parse(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


_EMPTY = "its value is empty"


def given_text(value: str) -> str:
    """A type of argparse: text that is not empty, as that of an unset variable of a script would be."""
    if not value:
        raise argparse.ArgumentTypeError(_EMPTY)
    if not is_utf8(value):
        raise argparse.ArgumentTypeError("its value is not UTF-8")
    return value


def given_path(value: str) -> Path:
    """A type of argparse: the path of a file or folder; an empty one would be the current folder."""
    return Path(given_text(value))


class GivenText(argparse.Action):
    """Stores text that is not empty. A type would also be applied to the default, which may be empty."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        _option: str | None = None,
    ) -> None:
        """Store the value."""
        try:
            setattr(namespace, self.dest, given_text(values))
        except argparse.ArgumentTypeError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def _repeated(metavar: str) -> Mapping[str, Any]:
    return {"action": "append", "type": given_text, "default": [], "metavar": metavar}


def _text(metavar: str) -> Mapping[str, Any]:
    return {"action": GivenText, "default": "", "metavar": metavar}


_SWITCH: Mapping[str, Any] = {"action": "store_true"}

SELECTORS = (
    Option("kernel", "kernels by name in the matrix, by release, or by path", _repeated("GLOB|PATH")),
    Option("hookset", "hook sets", _repeated("NAME")),
    Option("test", "tests; !GLOB leaves out", _repeated("GLOB")),
    Option("arch", "architectures", _repeated("ARCH")),
    Option("tag", "also entries of the matrix that carry this tag", _repeated("TAG")),
)
CONNECT = Option("connect", "libvirt (default: qemu:///embed)", _text("URI"))
ACCELERATOR = Option(
    "accelerator",
    "KVM, TCG (emulation), or the faster of them on this host (default: auto)",
    {"choices": CHOICES, "default": "auto"},
)
MIRROR = Option("mirror", "Debian's main archive (default: from this host's apt configuration)", _text("URL"))
UNLOCKED = Option("unlocked", "use the newest kernels and ignore matrix.lock", _SWITCH)
COLD = Option("cold", "boot every machine; restore no saved one", _SWITCH)
BENCH = (CONNECT, ACCELERATOR, MIRROR, UNLOCKED, COLD)  # where machines and kernels come from
OUTPUT = Option(
    "output",
    "folder for plan, results and reports (default: out/<run id>, with out/latest)",
    {"type": given_path, "metavar": "DIR"},
)
ALL = (
    *SELECTORS,
    *BENCH,
    OUTPUT,
    Option(
        "deadline",
        "end the run after this time: 90, 15m or 2h",
        {"type": typed(quantities.seconds), "default": 0.0, "metavar": "TIME"},
    ),
    Option("shard", "run only part I of N; `harness merge` joins the parts", _text("I/N")),
    Option("must-pass", "fail a test that passes in no cell, also if every cell skips it", _SWITCH),
    Option("keep-on-fail", "keep the machine of a failed cell, and print how to enter it", _SWITCH),
)


def add_to(parser: argparse.ArgumentParser, *options: Option) -> None:
    """Add these options to a command of `harness`."""
    for option in options:
        parser.add_argument(option.flag, help=option.help, **option.settings)
