"""The agent's commands, as a table.

Each command imports what it needs when it runs: starting up is most of what a short command costs. A mistake,
or a refusal of the kernel, is one line with a hint and an exit status of `agent.errors`; `--debug` shows
where it came from.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from agent import __version__
from agent.errors import AgentError

INTERRUPTED = 130  # what a shell reports for a process that SIGINT ended
UNHEARD = 141  # and for one that SIGPIPE ended


class Command(NamedTuple):
    """A word of the command line; `module` has `add_arguments(parser)` and `run(arguments) -> status`."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("run", "agent.commands.run", "watch files and print what the rules match"),
    Command("status", "agent.commands.ask", "print what a running agent counts, as JSON"),
    Command("reload", "agent.commands.ask", "let a running agent read its rules again"),
    Command("selftest", "agent.commands.selftest", "prove on this host that the agent keeps its promises"),
    Command("probe", "agent.commands.probe", "say which kinds of hooks fire on this kernel"),
    Command("explain", "agent.commands.explain", "say for each rule what the kernel will forward"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status and lets no error of ours through as a traceback."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(words).parse_args(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()  # a reader that has gone can be dealt with here, not at the interpreter's end
    except AgentError as error:
        if "debug" in arguments:
            raise
        sys.stderr.write(_told(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone, as in `agent status | head`: the last flush must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNHEARD
    return status


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """Only the command that `words` name is imported for its options."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from"
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


def _told(error: AgentError) -> str:
    lines = [f"agent: {error.message}", f"hint: {error.hint}" if error.hint else "", error.detail]
    return "".join(f"{line.rstrip()}\n" for line in lines if line)
