"""`agent mute`: make a running agent hold back matches for a while, or list what it held back."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from agent.rules import literals
from agent.service import control


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add = parser.add_argument
    add("--for", dest="seconds", type=_seconds, metavar="TIME", help="how long: 90s, 30m, 8h or 2d")
    add("--rule", default="", metavar="GLOB", help="ids of the rules; the default is all")
    add("--path", default="", metavar="GLOB", help="paths, as in rules; the default is all")
    add("--reason", default="", metavar="TEXT", help="why; it is in the events about the mute")
    add("--list", action="store_true", help="print the mutes in force and the last ended ones as JSON")
    add("--end", type=int, metavar="ID", help="end a mute before its time")
    about = f"socket of the agent (default: {control.DEFAULT_PATH})"
    add("--control", type=Path, default=control.DEFAULT_PATH, metavar="SOCKET", help=about)


def run(arguments: argparse.Namespace) -> int:
    """Send the request and print the answer as JSON. Raises AgentError for an error in it."""
    request: dict[str, Any] = {"end": arguments.end} if arguments.end is not None else {}
    if not arguments.list and arguments.end is None:
        if arguments.seconds is None:
            raise UsageError("the mute has no end", hint="add --for TIME, such as --for 30m")
        names = ("rule", "path", "reason", "seconds")
        request = {name: getattr(arguments, name) for name in names}
    json.dump(control.request(arguments.control, "mute", request), sys.stdout, indent=2)
    sys.stdout.write("\n")
    return 0


def _seconds(text: str) -> float:
    wrong = argparse.ArgumentTypeError(f"invalid duration {text!r} (use 90s, 30m, 8h or 2d)")
    try:
        seconds = literals.duration(text) / 1e9
    except literals.BadLiteralError as error:
        raise wrong from error
    if not seconds:
        raise wrong
    return seconds
