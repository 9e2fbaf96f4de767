"""`agent run`: the agent as a service, from its start to the last line it delivers.

It starts in an order that loses nothing and leaves nothing behind: rules first, since their errors are the
user's; then the sinks; then the hooks; then `/proc`, because what changes while it is read is told by the
hooks; then privileges go; then threads begin. It ends the other way round: the hooks go, what they had seen
is judged, and the sinks have a while to deliver it.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from agent import __version__
from agent.context.enrich import Enricher
from agent.context.hashing import Hasher
from agent.errors import UsageError
from agent.events.actors import Context
from agent.events.model import Event
from agent.hooks import coverage
from agent.rules.engine import Ruleset
from agent.service import control, privileges
from agent.service.loop import Service, Watch, log
from agent.service.options import STDOUT, RunOptions
from agent.sinks.base import Sink
from agent.sinks.dispatch import Dispatcher, Outlet
from agent.sinks.jsonl import JsonlSink
from agent.sinks.ratelimit import RateLimit
from agent.sinks.render import Renderer, this_host
from agent.sinks.report import Reporter

Load = Callable[[Sequence[Path]], Ruleset]
Judge = Callable[[Event], Context]
Matched = Callable[[Event, Context, Sequence[str]], None]
OpenWatch = Callable[[RunOptions, Judge, Matched], Watch]


def run(options: RunOptions, load: Load, open_watch: OpenWatch) -> int:
    """Runs until SIGTERM or SIGINT; 0, or 1 if matches were left that no sink took.

    `load` reads rules (RuleErrors if it cannot), `open_watch` attaches the hooks; it is given what makes an
    event's context, to be called once for every event in order, and what takes a match. Raises AgentError if
    the agent cannot start.
    """
    ruleset = load(options.rules)
    dispatcher = Dispatcher([Outlet(sink) for sink in open_sinks(options)])
    reporter = _reporter(options, dispatcher)
    enricher = Enricher()
    with ExitStack() as stack:
        watch = open_watch(options, enricher.context, reporter.matched)
        stack.callback(watch.close)
        state = watch.state()
        for line in coverage.lines(state["coverage"], state["limits"]):
            log(line)
        service = Service(watch, lambda: load(options.rules), reporter, dispatcher, enricher)
        enricher.start()
        service.enforce(ruleset)
        _give_up_privileges(options)
        _open_doors(options, service, stack)
        dispatcher.start()
        _on_signals(service)
        log(f"watching, {len(ruleset.rules)} rules in force")
        left = service.run()
    if left:
        log(f"stopped with {left} matches that no sink took in time")
    return 1 if left else 0


def open_sinks(options: RunOptions) -> list[Sink]:
    """The sinks that were asked for; UsageError if there are none, or one cannot be opened."""
    sinks: list[Sink] = []
    if options.output:
        sinks.append(_open_jsonl(options.output))
    if options.otlp:
        sinks.append(_open_otlp(options))
    if not sinks:
        raise UsageError("matches would go nowhere", hint="give --output or --otlp")
    return sinks


def _open_jsonl(output: str) -> Sink:
    try:
        return JsonlSink(None if output == STDOUT else Path(output))
    except OSError as error:
        raise UsageError(f"cannot write to {output}: {error.strerror}") from error


def _open_otlp(options: RunOptions) -> Sink:
    # Imported where they are used: TLS and HTTP cost more start-up time than all the rest.
    from agent.sinks.otlp import OtlpSink
    from agent.sinks.otlp_http import Collector
    from agent.sinks.spool import Spool

    collector = Collector(options.otlp, options.otlp_headers)
    try:
        spool = Spool(options.spool, options.spool_bytes) if options.spool else None
    except OSError as error:
        raise UsageError(f"cannot spool in {options.spool}: {error.strerror}") from error
    host = {f"host.{key}": value for key, value in this_host().items()}
    return OtlpSink(collector, spool, {"service.name": "fim-agent", "service.version": __version__, **host})


def _reporter(options: RunOptions, dispatcher: Dispatcher) -> Reporter:
    return Reporter(
        Renderer(this_host()),
        dispatcher,
        RateLimit(options.rate_limit, options.burst),
        Hasher(options.hash_max_bytes),
        hash_all=options.hash_changed,
    )


def _give_up_privileges(options: RunOptions) -> None:
    if not options.keep_privileges:
        privileges.drop(privileges.needed())


def _open_doors(options: RunOptions, service: Service, stack: ExitStack) -> None:
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
