"""`agent run`: watch files and report what the rules match."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.service.options import RunOptions

if TYPE_CHECKING:
    from agent.events.model import Event
    from agent.service.loop import Watch
    from agent.service.start import Judge, Matched

_DEFAULT = {entry.name: entry.default for entry in fields(RunOptions)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options: one for each field of RunOptions, with its default."""
    add = parser.add_argument
    add(
        "--rules",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="policy files, or folders of them",
    )
    _add(parser, "output", metavar="FILE", help="where matches go as JSON Lines; - is stdout, '' nowhere")
    _add(parser, "otlp", metavar="URL", help="send matches to this collector too")
    add("--otlp-header", type=_pair, action="append", default=[], metavar="NAME=VALUE", help="may repeat")
    _add(parser, "spool", type=Path, metavar="DIR", help="what waits for the collector is kept here")
    _add(parser, "spool_bytes", type=int, metavar="N", help="and takes no more room than this")
    _add(parser, "rate_limit", type=float, metavar="N", help="matches a second of one rule; 0 is no limit")
    _add(parser, "burst", type=int, metavar="N", help="matches of one rule at once")
    _add(parser, "hash_changed", action="store_true", help="SHA-256 of whatever changed")
    _add(parser, "hash_max_bytes", type=int, metavar="N", help="but of no file larger than this")
    _add(parser, "metrics_port", type=int, metavar="PORT", help="serve Prometheus metrics on 127.0.0.1")
    _add(parser, "control", type=Path, metavar="SOCKET", help="where `agent status` and `reload` ask")
    _add(parser, "hookset", metavar="NAME", help="attach by these hooks only")
    _add(parser, "btf", metavar="SOURCE", help="where the kernel's types come from")
    _add(parser, "transport", metavar="NAME", help="how records leave the kernel")
    _add(parser, "keep_privileges", action="store_true", help="for debuggers")


def run(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    from agent.rules.load import load
    from agent.service.start import run as run_service

    return run_service(options_of(arguments), load, open_watch)


def open_watch(options: RunOptions, context_of: Judge, matched: Matched) -> Watch:
    """Attach the hooks, with the pipeline behind them."""
    from agent.kernel import loader
    from agent.pipeline import Pipeline

    def judged(event: Event, context: Any, rules: Sequence[str]) -> None:
        if rules:
            matched(event, context, rules)

    return Pipeline(loader.load(options.hookset, options.btf, options.transport), judged, context_of)


def options_of(arguments: argparse.Namespace) -> RunOptions:
    """What the command line says."""
    words = vars(arguments)
    same = {name: words[name] for name in _DEFAULT if name in words}
    return RunOptions(**same | {"rules": tuple(arguments.rules), "otlp_headers": dict(arguments.otlp_header)})


def _add(parser: argparse.ArgumentParser, name: str, **how: Any) -> None:
    default = _DEFAULT[name]
    if default not in ("", None, False, 0):
        how["help"] += f" (default: {default})"
    parser.add_argument(f"--{name.replace('_', '-')}", default=default, **how)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
