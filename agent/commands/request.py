"""`agent status` and `agent reload`: send one request to a running agent and print the answer."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from agent.service import control


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options; the name of the command is the request."""
    parser.add_argument(
        "--control",
        type=Path,
        default=control.DEFAULT_PATH,
        metavar="SOCKET",
        help=f"socket of the agent (default: {control.DEFAULT_PATH})",
    )
    parser.set_defaults(request=parser.prog.rpartition(" ")[2])


def run(arguments: argparse.Namespace) -> int:
    """Print the answer as JSON. Raises AgentError for an error in it."""
    json.dump(control.request(arguments.control, arguments.request), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0
