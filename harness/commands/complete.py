"""Completes command lines of `harness` in the shell, by argcomplete."""

from __future__ import annotations

import argparse
import contextlib
from typing import get_args

import argcomplete
from argcomplete.completers import BaseCompleter

from harness.errors import HarnessError
from harness.plan import checked, matrix
from harness.results import scenarios


def complete(parser: argparse.ArgumentParser) -> None:
    """Print what completes the command line in COMP_LINE, and exit."""
    argcomplete.autocomplete(parser, default_completer=_Values())


class _Values(BaseCompleter):
    """The known values of options without `choices`; for other options the shell completes files."""

    def __call__(
        self,
        *,
        prefix: str,  # noqa: ARG002 - argcomplete selects by it afterwards
        action: argparse.Action,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        parsed_args: argparse.Namespace,
    ) -> list[str]:
        if action.dest == "test":
            return list(scenarios.of_catalogue())
        if action.dest == "hookset":
            return list(get_args(matrix.Hookset))
        if action.dest == "arch":
            return list(get_args(matrix.Arch))
        if action.dest == "kernel":
            with contextlib.suppress(HarnessError):
                return [kernel.name for kernel in checked.load(parsed_args.matrix).kernels]
        return []
