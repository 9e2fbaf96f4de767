"""The command line of the agent: a table of commands and the handling of their errors.

A command is imported only when it runs, because imports take most of the time of a short command. An error is
printed as one line with a hint, and ends with an exit code of `agent.errors`. `--debug` prints a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple, NoReturn

from agent import __version__
from agent.errors import AgentError

INTERRUPTED = 130  # what a shell reports for a process that SIGINT ended
BROKEN_PIPE = 141  # what it reports for one that SIGPIPE ended


class Command(NamedTuple):
    """A command; its module has `add_arguments(parser)` and `run(arguments) -> status`."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("run", "agent.commands.run", "watch files and print what the rules match"),
    Command("status", "agent.commands.request", "print the state of a running agent as JSON"),
    Command("reload", "agent.commands.request", "make a running agent load its rules again"),
    Command("mute", "agent.commands.mute", "hold back matches of a running agent for a while"),
    Command("selftest", "agent.commands.selftest", "test on this host that the agent keeps its promises"),
    Command("probe", "agent.commands.probe", "show which kinds of hooks fire on this kernel"),
    Command("explain", "agent.commands.explain", "show for each rule what the kernel forwards"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status. Without --debug no AgentError becomes a traceback."""
    if "_ARGCOMPLETE" in os.environ:
        _complete(os.environ["COMP_LINE"].split())
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(words).parse_args(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()  # raises BrokenPipeError here, not at the interpreter's exit
    except AgentError as error:
        if "debug" in arguments:
            raise
        sys.stderr.write(_message(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has exited, as in `agent status | head`. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return status


def _complete(words: Sequence[str]) -> NoReturn:
    """Complete a command line for the shell; without argcomplete, which is optional, offer nothing."""
    with contextlib.suppress(ImportError):
        import argcomplete

        argcomplete.autocomplete(_parser(words))
    sys.exit(1)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Build the parser; import only the command that `words` name."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="print the traceback of an error"
    )
    parser = argparse.ArgumentParser("agent", description=sys.modules["agent"].__doc__, parents=[common])
    parser.add_argument("--version", action="version", version=f"agent {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        options = commands.add_parser(command.name, help=command.help, parents=[common])
        if command.name in words:
            module = import_module(command.module)
            module.add_arguments(options)
            options.set_defaults(run=module.run)
    return parser


def _message(error: AgentError) -> str:
    lines = [f"agent: {error.message}", f"hint: {error.hint}" if error.hint else "", error.detail]
    return "".join(f"{line.rstrip()}\n" for line in lines if line)
