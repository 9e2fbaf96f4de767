"""The event loop: judge what comes, answer who asks, reload what changed, and end without losing anything."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from agent.context.enrich import Enricher
from agent.errors import AgentError
from agent.rules.engine import Ruleset
from agent.service import control
from agent.sinks.dispatch import Dispatcher
from agent.sinks.report import Reporter

POLL_MS = 200  # how long a signal or a question may wait for an answer
LOADING_POLL_MS = 10


def log(message: str) -> None:
    """Tells the operator; a service's stderr is its journal."""
    sys.stderr.write(f"fim-agent: {message}\n")
    sys.stderr.flush()


class Watch(Protocol):
    """The kernel side: hooks, filters and the judgement of what comes through."""

    def enforce(self, ruleset: Ruleset) -> None:
        """Puts rules in force: every event is judged by the old ones or the new ones, and none is lost."""

    def pump(self, timeout_ms: int) -> int:
        """Waits for events at most so long, judges those that came and reports matches; how many came."""

    def state(self) -> dict[str, Any]:
        """`ledger`, `lost`, `hooks`, `coverage` and its `limits`, for `agent status`."""

    def detach(self) -> None:
        """No new events from here on; `pump` still gives those that came before."""

    def close(self) -> None:
        """Leaves nothing of the agent in the kernel."""


class _Loading(threading.Thread):
    def __init__(self, load: Callable[[], Ruleset]) -> None:
        super().__init__(name="load", daemon=True)
        self._load = load
        self._ruleset: Ruleset | None = None
        self._error: AgentError | None = None

    def run(self) -> None:
        try:
            self._ruleset = self._load()
        except AgentError as error:
            self._error = error

    def result(self) -> Ruleset:
        if self._ruleset is None:
            raise self._error or AgentError("the rules could not be read")
        return self._ruleset


class Service:
    """The event loop. `load` reads the rules that the files hold now; RuleErrors if they do not load."""

    def __init__(
        self,
        watch: Watch,
        load: Callable[[], Ruleset],
        reporter: Reporter,
        dispatcher: Dispatcher,
        enricher: Enricher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.mailbox = control.Mailbox()
        self._watch = watch
        self._load = load
        self._reporter = reporter
        self._dispatcher = dispatcher
        self._enricher = enricher
        self._clock = clock
        self._started = clock()
        self._stopping = False
        self._reload_wanted = False
        self._reloads = {"ok": 0, "failed": 0}
        self._handlers: control.Handlers = {"status": self.state, "reload": self.reload}

    def enforce(self, ruleset: Ruleset) -> None:
        """Puts rules in force."""
        self._watch.enforce(ruleset)
        self._reporter.rules = ruleset.rules
        self._reporter.limit.forget()

    def reload(self) -> control.Reply:
        """Reads the rules again; when they are wrong, those in force stay, and the reply says why."""
        try:
            ruleset = self._load_aside()
            self.enforce(ruleset)
        except AgentError as error:
            self._reloads["failed"] += 1
            log("\n".join(filter(None, (f"the old rules stay in force: {error.message}", error.detail))))
            return {
                "error": f"the old rules stay in force: {error.message}",
                "hint": error.hint,
                "detail": error.detail,
            }
        self._reloads["ok"] += 1
        log(f"reloaded: {len(ruleset.rules)} rules in force")
        return {"rules": len(ruleset.rules)}

    def _load_aside(self) -> Ruleset:
        """Loads in a thread: events do not wait, and the ring buffer holds them for a moment only."""
        loading = _Loading(self._load)
        loading.start()
        while loading.is_alive():
            self._watch.pump(LOADING_POLL_MS)
        return loading.result()

    def state(self) -> dict[str, Any]:
        """What `agent status` prints and metrics are made of."""
        return {
            "uptime_s": round(self._clock() - self._started, 3),
            "rules": len(self._reporter.rules),
            "reloads": dict(self._reloads),
            **self._watch.state(),
            "context": self._enricher.counters(),
            "hash": asdict(self._reporter.hasher.counters),
            "rate_limited": self._reporter.limit.suppressed(),
            "sinks": self._dispatcher.status(),
        }

    def run(self) -> int:
        """Runs until `stop`, then delivers what there is; returns how many matches were left behind."""
        while not self._stopping:
            self._watch.pump(POLL_MS)
            self.mailbox.answer(self._handlers)
            if self._reload_wanted:
                self._reload_wanted = False
                self.reload()
                self._dispatcher.reopen()
        self.mailbox.close()
        self._watch.detach()
        while self._watch.pump(0):
            pass
        return self._dispatcher.close()

    def stop(self) -> None:
        """Ends `run`; may be called by a signal handler."""
        self._stopping = True

    def want_reload(self) -> None:
        """Reloads rules and reopens files soon; may be called by a signal handler."""
        self._reload_wanted = True
