"""`agent status` and `agent reload`: one question to a running agent."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent.service import control


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where the agent listens; which question it is, is the command's own name."""
    parser.add_argument("--control", type=Path, default=control.DEFAULT_PATH, metavar="SOCKET")
    parser.set_defaults(question=parser.prog.rpartition(" ")[2])


def run(arguments: argparse.Namespace) -> int:
    """Print the answer as JSON; an answer that is an error is raised as one."""
    json.dump(control.ask(arguments.control, arguments.question), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0
