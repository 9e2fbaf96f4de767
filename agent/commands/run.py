"""`agent run`: watch files and report the events that match rules."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.service.options import ECS, JSON, LEAVE_OUT, REFUSE, RunOptions

if TYPE_CHECKING:
    from agent.events.model import Event
    from agent.rules.engine import Ruleset
    from agent.service.loop import Watch
    from agent.service.start import Judge, Matched

_DEFAULT = {entry.name: entry.default for entry in fields(RunOptions)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: one for each field of RunOptions, with its default."""
    parser.add_argument(
        "--rules",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="policy files, or folders of them",
    )
    about = "at the start, refuse rules with errors, or leave those out and run the others"
    _add(parser, "bad_rules", choices=(REFUSE, LEAVE_OUT), help=about)
    _add_sinks(parser)
    about = "maximum matches per second, rule and user; 0 is no limit"
    _add(parser, "rate_limit", type=_number(float, 0), metavar="N", help=about)
    about = "maximum matches of a rule and user at once; 0 is as --rate-limit"
    _add(parser, "burst", type=_number(int, 0), metavar="N", help=about)
    _add(parser, "hash_changed", action="store_true", help="add the SHA-256 of changed files to all matches")
    about = "do not hash files larger than N bytes"
    _add(parser, "hash_max_bytes", type=_number(int, 1), metavar="N", help=about)
    about = "serve Prometheus metrics on 127.0.0.1"
    _add(parser, "metrics_port", type=_number(int, 1, 65_535), metavar="PORT", help=about)
    _add(parser, "state", type=Path, metavar="DIR", help="folder for what survives a restart: the mutes")
    about = "seconds between two events agent.heartbeat; 0 is none"
    _add(parser, "heartbeat", type=_seconds, metavar="SECONDS", help=about)
    _add(parser, "control", type=Path, metavar="SOCKET", help="socket for `agent status` and `agent reload`")
    _add(parser, "hookset", metavar="NAME", help="use only the hooks of this set")
    _add(parser, "btf", metavar="SOURCE", help="source of the kernel's types: kernel, external or none")
    _add(parser, "transport", metavar="NAME", help="transport of records to user space: ringbuf or perf")
    _add(parser, "keep_privileges", action="store_true", help="keep all privileges, for debugging")


def _add_sinks(parser: argparse.ArgumentParser) -> None:
    _add(parser, "output", metavar="FILE", help="write matches to FILE as JSON Lines; - is stdout, '' none")
    _add(parser, "otlp", metavar="URL", help="also send matches to the OTLP collector at URL")
    parser.add_argument(
        "--otlp-header",
        type=_pair,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="HTTP header; can repeat",
    )
    about = "also send matches to a syslog server: unix:PATH, tcp://HOST:PORT or tls://HOST[:PORT]"
    _add(parser, "syslog", metavar="URL", help=about)
    _add(parser, "syslog_ca", type=Path, metavar="FILE", help="certificates to trust for --syslog tls://")
    _add(parser, "journald", action="store_true", help="also send matches to systemd's journal")
    about = "names of fields in all sinks: those of this agent, or of the Elastic Common Schema"
    _add(parser, "format", choices=(JSON, ECS), help=about)
    _add(parser, "spool", type=Path, metavar="DIR", help="folder for matches that wait for the collector")
    _add(parser, "spool_bytes", type=_number(int, 1), metavar="N", help="maximum size of the spool in bytes")


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from agent.rules.load import load
    from agent.service.start import run as run_service

    return run_service(options_of(arguments), load, open_watch)


def open_watch(options: RunOptions, ruleset: Ruleset, context_of: Judge, matched: Matched) -> Watch:
    """Attach the hooks that the rules need, and return the pipeline that handles their events."""
    from agent.kernel import loader
    from agent.pipeline import Pipeline, wanted_by
    from agent.service.alive import is_probe

    def judged(event: Event, context: Any, rules: Sequence[str]) -> None:
        if rules and not is_probe(event):
            matched(event, context, rules)

    loaded = loader.load(options.hookset, options.btf, options.transport, attach=wanted_by(ruleset))
    return Pipeline(loaded, judged, context_of)


def options_of(arguments: argparse.Namespace) -> RunOptions:
    """Return the options of the command line."""
    words = vars(arguments)
    same = {name: words[name] for name in _DEFAULT if name in words}
    return RunOptions(**same | {"rules": tuple(arguments.rules), "otlp_headers": dict(arguments.otlp_header)})


def _add(parser: argparse.ArgumentParser, name: str, **how: Any) -> None:
    default = _DEFAULT[name]
    if default not in ("", None, False, 0):
        how["help"] += f" (default: {default})"
    parser.add_argument(f"--{name.replace('_', '-')}", default=default, **how)


def _number(kind: type[float], least: int, most: float = 1 << 62) -> Callable[[str], float]:
    """Return a parser of numbers from `least` to `most`."""
    allowed = f"{least} to {most}" if most < 1 << 62 else f"{least} or more"

    def parse(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            number = -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"invalid number {text!r} (use {allowed})")
        return number

    return parse


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not (seconds == 0 or 1 <= seconds <= 86_400):
        raise argparse.ArgumentTypeError(f"invalid number of seconds {text!r} (use 1 to 86400, or 0)")
    return seconds


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"invalid header {text!r} (use NAME=VALUE)")
    return name, value
