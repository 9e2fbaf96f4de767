"""The command `harness`: parses the command line, calls one command, and reports its errors."""

from __future__ import annotations

import argparse
import ast
import errno
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, Protocol

from harness.errors import ConfigError, HarnessError, IncompleteError, InfrastructureError
from harness.host import streams
from harness.text import one_line, visible

_MACHINES = (
    "run",
    "worker",
    "cluster",
    "plan",
    "kernels",
    "exec",
    "shell",
    "repro",
    "bisect",
    "bench",
    "doctor",
)
_RESULTS = ("report", "history", "compare", "merge", "clean")
COMMANDS = (*_MACHINES, *_RESULTS)
INTERRUPTED = 130  # the shell's exit status of a program that Ctrl-C ended
FAILURES = {"exec": 125}  # the exit code of all failures of a command that hands on the code of another
_NAMED_WRONG = (errno.ENAMETOOLONG, errno.ELOOP)  # errors of a name, which the user gave
PIPE_CLOSED = 141  # and of one that wrote to a pipe without a reader


class Command(Protocol):
    """A module in `harness.commands`: its docstring's first line is its help."""

    __doc__: str | None

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the arguments."""

    def execute(self, arguments: argparse.Namespace) -> int:
        """Run the command; return the exit code. Raises HarnessError."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Every error is one line and a hint, with a traceback only with --debug. An unexpected error exits 3 and
    leaves its traceback in a file.
    """
    if {"_ARGCOMPLETE", "COMP_LINE"} <= os.environ.keys():  # the shell completes a command line
        from harness.commands.complete import complete

        complete(parser(_command_of(os.environ["COMP_LINE"].split())))
    words = list(sys.argv[1:] if argv is None else argv)
    with streams.steady():
        try:
            return _run(words)
        except KeyboardInterrupt:
            sys.stderr.write("harness: interrupted\n")
            return IncompleteError.exit_code if _command_of(words) == ["run"] else INTERRUPTED
        except BrokenPipeError:
            return PIPE_CLOSED  # of `exec`, which writes to its standard streams by itself
        except Exception as error:  # noqa: BLE001 - a defect of the harness must not exit 1, "the product failed"
            if "--debug" in words:
                traceback.print_exception(error)
            code = _print_error(error)
            return next((FAILURES[name] for name in _command_of(words) if name in FAILURES), code)


def _run(words: list[str]) -> int:
    # Searching for plugins of pydantic takes a tenth of the time of a short command, and none is used.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if os.environ.get("COLUMNS") == "0":
        del os.environ["COLUMNS"]  # tables of this width would be empty
    # Only the module of the given command is imported; `harness --help` needs none.
    arguments = parser(_command_of(words)).parse_args(words)
    arguments.argv = ("harness", *words)
    return _command(arguments.command).execute(arguments)


def _command_of(words: Sequence[str]) -> list[str]:
    """Return the command in a command line, or nothing."""
    return [word for word in words if word in COMMANDS][:1]


def _print_error(error: Exception) -> int:
    if isinstance(error, OSError):
        # Errors without a message of the package that met them: a full disk, a folder of another user.
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        gone = "the current folder does not exist" if error.errno == errno.ENOENT and not where else ""
        usage = isinstance(error, PermissionError) or error.errno in _NAMED_WRONG
        kind = ConfigError if usage else InfrastructureError
        error = kind(gone or f"{where}{error.strerror or error}")
    elif isinstance(error, ModuleNotFoundError):
        hint = "install what requirements.lock names: rm -f .venv/.installed-* && make setup"
        if error.name in ("dask", "distributed"):
            hint = "install the extra cluster: make setup-cluster"
        error = InfrastructureError(f"the Python package {error.name} is not installed", hint=hint)
    elif not isinstance(error, HarnessError):
        error = _unexpected(error)
    for line in error.message.splitlines():
        sys.stderr.write(f"harness: {visible(line)}\n")
    if error.hint:
        sys.stderr.write(f"hint: {visible(error.hint)}\n")
    return error.exit_code


def _unexpected(error: Exception) -> HarnessError:
    """A defect of the harness, as an error whose hint names the file with the traceback."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="harness-", suffix=".traceback.txt", delete=False, encoding="utf-8", errors="replace"
    ) as file:
        traceback.print_exception(error, file=file)
    words = one_line(f"{type(error).__name__}: {error}")
    return InfrastructureError(f"the harness failed: {words}", hint=f"the traceback is in {file.name}")


def parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of `commands` only; without any it is for the overview."""
    top = _Parser(prog="harness", description="Boots real kernels and proves the agent on each.")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        if name in commands:
            module = _command(name)
            summary = (module.__doc__ or "").splitlines()[0]
            parser_of = subparsers.add_parser(name, help=summary, description=summary)
            top.failure = parser_of.failure = FAILURES.get(name, _Parser.failure)
            module.configure(parser_of)
        else:
            subparsers.add_parser(name, help=None if commands else _summary(name))
    return top


class _Parser(argparse.ArgumentParser):
    """A parser with its own exit code for an invalid command line, and without abbreviations.

    An abbreviation changes its meaning when an option is added: `run --keep` would keep machines.
    """

    failure = 2

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Print the usage and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.failure, f"{self.prog}: error: {visible(message)}\n")


def _summary(name: str) -> str:
    """Return the first line of a command's docstring, without importing the command."""
    path = Path(__file__).with_name("commands") / f"{name}.py"
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").splitlines()[0]


def _command(name: str) -> Command:
    module: Command = importlib.import_module(f"harness.commands.{name}")
    return module


if __name__ == "__main__":
    sys.exit(main())
