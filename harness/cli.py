"""The command `harness`: what it is asked for, and how what went wrong is said."""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol

from harness.errors import HarnessError, InfrastructureError

_MACHINES = ("run", "plan", "kernels", "exec", "shell", "repro", "doctor")
_RESULTS = ("report", "compare", "merge", "clean")
COMMANDS = (*_MACHINES, *_RESULTS)
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


class Command(Protocol):
    """A module in `harness.commands`: its docstring's first line is its help."""

    __doc__: str | None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments."""

    def execute(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code. Raises HarnessError."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every error is one line and a hint, and a traceback only with --debug."""
    words = list(sys.argv[1:] if argv is None else argv)
    # A command's module is imported only when it is asked for: `harness --help` needs none of them.
    arguments = parser([word for word in words if word in COMMANDS][:1]).parse_args(words)
    arguments.argv = ("harness", *words)
    try:
        return _command(arguments.command).execute(arguments)
    except KeyboardInterrupt:
        sys.stderr.write("harness: interrupted\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as in `harness plan | head`.
        sys.stderr.close()
        return 0
    except (HarnessError, OSError) as error:
        if arguments.debug:
            traceback.print_exc()
        code = _tell(error)
        return _failure(arguments.command) or code


def _tell(error: HarnessError | OSError) -> int:
    if isinstance(error, OSError):
        # What no room has words for: a full disk, a folder that is not ours.
        error = InfrastructureError(str(error))
    for line in error.message.splitlines():
        sys.stderr.write(f"harness: {line}\n")
    if error.hint:
        sys.stderr.write(f"hint: {error.hint}\n")
    return error.exit_code


def parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the whole command line, with the arguments of `commands`; with none, for an overview."""
    top = _Parser(prog="harness", description="Boots real kernels and proves the agent on each.")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        if name in commands:
            module = _command(name)
            summary = (module.__doc__ or "").splitlines()[0]
            parser_of = subparsers.add_parser(name, help=summary, description=summary)
            top.failure = parser_of.failure = _failure(name) or _Parser.failure
            module.configure(parser_of)
        else:
            subparsers.add_parser(name, help=None if commands else _summary(name))
    return top


class _Parser(argparse.ArgumentParser):
    """A parser with an exit code of its own for a wrong command line."""

    failure = 2

    def error(self, message: str) -> NoReturn:
        """Print the usage and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.failure, f"{self.prog}: error: {message}\n")


def _failure(name: str) -> int:
    """The exit code of all failures of a command that hands on the code of another; 0 for the others."""
    return int(getattr(_command(name), "FAILURE", 0))


def _summary(name: str) -> str:
    """The first line of a command's docstring, without importing what the command needs."""
    path = Path(__file__).with_name("commands") / f"{name}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def _command(name: str) -> Command:
    module: Command = importlib.import_module(f"harness.commands.{name}")
    return module


if __name__ == "__main__":
    sys.exit(main())
