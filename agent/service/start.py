"""Starts and stops the agent as a service, for `agent run`.

The order loses no events and leaves nothing behind: first load the rules, because their errors are the most
likely; then open the sinks; then attach the hooks; then read `/proc`, because the hooks report what changes
meanwhile; then drop privileges; then start threads. The stop is in reverse order: detach the hooks, evaluate
the remaining events, and give the sinks some time to deliver the matches.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Protocol

from agent import __version__
from agent.context.enrich import Enricher
from agent.context.hashing import Hasher, host_root
from agent.errors import UsageError
from agent.events.actors import Context
from agent.events.model import Event
from agent.hooks import coverage
from agent.kernel import memory
from agent.rules.engine import Ruleset
from agent.service import control, privileges
from agent.service.loop import Service, Watch, log
from agent.service.notify import Notifier
from agent.service.options import ECS, LEAVE_OUT, STDOUT, RunOptions
from agent.sinks.base import NO_SPACE, Match, Sink
from agent.sinks.dispatch import Dispatcher, Outlet
from agent.sinks.explain import Explainer, databases
from agent.sinks.jsonl import JsonlSink
from agent.sinks.mute import Mutes
from agent.sinks.ratelimit import RateLimit
from agent.sinks.render import Renderer, this_host
from agent.sinks.report import Reporter

Judge = Callable[[Event], Context]
Matched = Callable[[Event, Context, Sequence[str]], None]
OpenWatch = Callable[[RunOptions, Ruleset, Judge, Matched], Watch]


class Load(Protocol):
    """Loads rule files; with `leave_out` without the entries that have errors."""

    def __call__(self, paths: Sequence[Path], *, leave_out: bool = False) -> Ruleset:
        """Raise RuleErrors for errors in the files."""


def run(options: RunOptions, load: Load, open_watch: OpenWatch) -> int:
    """Run until SIGTERM or SIGINT; return 0, or 1 if matches remain undelivered.

    `load` reads rules and raises RuleErrors. `open_watch` attaches the hooks that the rules need; it is
    passed a function that returns the context of an event, to be called once for every event in order, and
    one that reports a match. Raises AgentError if the agent cannot start.
    """
    notifier = Notifier()
    ruleset = load(options.rules, leave_out=options.bad_rules == LEAVE_OUT)
    encode = _encoder(options.format)
    dispatcher = Dispatcher([Outlet(sink, encode=encode) for sink in open_sinks(options)])
    reporter = _reporter(options, dispatcher)
    enricher = Enricher()
    with ExitStack() as stack:
        watch = open_watch(options, ruleset, enricher.context, reporter.matched)
        stack.callback(watch.close)
        state = watch.state()
        for line in coverage.lines(state["coverage"], state["limits"]):
            log(line)
        service = Service(
            watch,
            lambda: load(options.rules),
            reporter,
            dispatcher,
            enricher,
            notifier,
            options.heartbeat,
        )
        enricher.start()
        service.enforce(ruleset)
        memory.release()
        if not options.keep_privileges:
            privileges.drop(privileges.needed())
        _open_servers(options, service, stack)
        dispatcher.start()
        reporter.explainer.start()
        _on_signals(service)
        log(f"watching, {len(ruleset.rules)} rules in force")
        left = service.run()
    if left:
        log(f"stopped with {left} undelivered matches")
    return 1 if left else 0


def open_sinks(options: RunOptions) -> list[Sink]:
    """Open the sinks of the options. Raises UsageError if there are none, or one cannot be opened."""
    sinks: list[Sink] = []
    if options.output:
        sinks.append(_open_jsonl(options.output))
    if options.otlp:
        sinks.append(_open_otlp(options))
    if options.syslog_ca and not options.syslog.startswith("tls:"):
        hint = "write --syslog tls://HOST:PORT, or leave --syslog-ca out"
        raise UsageError("--syslog-ca is for --syslog tls:// only", hint=hint)
    if options.syslog:
        from agent.sinks.syslog import SyslogSink, server

        sinks.append(SyslogSink(server(options.syslog, options.syslog_ca), this_host()["name"]))
    if options.journald:
        from agent.sinks.journald import JournaldSink

        sinks.append(JournaldSink())
    if not sinks:
        hint = "add --output FILE, --otlp URL, --syslog URL or --journald"
        raise UsageError("no destination for matches", hint=hint)
    return sinks


def _encoder(name: str) -> Callable[[Match], Match] | None:
    if name != ECS:
        return None
    from agent.sinks.ecs import encode

    return encode


def _open_jsonl(output: str) -> Sink:
    try:
        return JsonlSink(None if output == STDOUT else Path(output))
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror}") from error


def _open_otlp(options: RunOptions) -> Sink:
    # Lazy imports: TLS and HTTP take more time to import than everything else.
    from agent.sinks.otlp import OtlpSink
    from agent.sinks.otlp_http import Collector
    from agent.sinks.spool import Spool

    collector = Collector(options.otlp, options.otlp_headers)
    try:
        spool = Spool(options.spool, options.spool_bytes) if options.spool else None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise UsageError(f"cannot spool in {options.spool}: {error.strerror}") from error
        spool = None
        log(f"cannot spool in {options.spool}: {error.strerror}; matches wait in memory only until a restart")
    host = {f"host.{key}": value for key, value in this_host().items()}
    return OtlpSink(collector, spool, {"service.name": "fim-agent", "service.version": __version__, **host})


def _reporter(options: RunOptions, dispatcher: Dispatcher) -> Reporter:
    return Reporter(
        Renderer(this_host()),
        dispatcher,
        RateLimit(options.rate_limit, options.burst),
        Hasher(options.hash_max_bytes),
        hash_all=options.hash_changed,
        mutes=_mutes(options.state),
        explainer=Explainer(databases(), dispatcher.send, host_root()),
    )


def _mutes(folder: Path) -> Mutes:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        log(f"mutes cannot be stored in {folder}: {error.strerror}")
    mutes = Mutes(folder / "mutes.json")
    if reason := mutes.restore():
        log(reason)
    return mutes


def _open_servers(options: RunOptions, service: Service, stack: ExitStack) -> None:
    stack.callback(control.ControlServer(options.control, service.mailbox).close)
    if options.metrics_port is not None:
        from agent.service.metrics import MetricsServer

        server = MetricsServer(options.metrics_port, lambda: service.mailbox.ask("status"))
        stack.callback(server.close)


def _on_signals(service: Service) -> None:
    def stop(_: int, __: FrameType | None) -> None:
        service.stop()

    def reload(_: int, __: FrameType | None) -> None:
        service.want_reload()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
