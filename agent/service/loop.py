"""The event loop: handles events, answers requests, reloads rules, and ends without losing events."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from agent.context.enrich import Enricher
from agent.errors import AgentError
from agent.rules.engine import Ruleset
from agent.service import control
from agent.service.alive import HEARTBEAT_S, Alive
from agent.service.notify import Notifier
from agent.sinks.dispatch import Dispatcher
from agent.sinks.report import Reporter

POLL_MS = 200  # how long a signal or a request may wait
LOADING_POLL_MS = 10
FOLLOWED_S = 2.0  # how long a file that takes a path of `any_path` may stay unnoticed
FOLLOWED_RETRY_S = 60.0  # after a failure
FOLLOWED_REST = 20.0  # times as long as a renewal took: a user may exchange the file all the time
RENEWED = "any_path"  # the cause of rules that follow other files than before
MAX_NOTES = 50  # lines about one set of rules


def log(message: str) -> None:
    """Log a message to stderr, which systemd writes to the journal."""
    sys.stderr.write(f"fim-agent: {message}\n")
    sys.stderr.flush()


class Watch(Protocol):
    """The attached hooks with their filters, and the evaluation of their events."""

    def enforce(self, ruleset: Ruleset) -> None:
        """Apply rules. Every event is evaluated by the old rules or the new ones; none is lost."""

    def pump(self, timeout_ms: int) -> int:
        """Wait up to `timeout_ms` for events, evaluate and report them; return their number."""

    def state(self) -> dict[str, Any]:
        """Return `ledger`, `lost`, `hooks`, `coverage` and `limits` for `agent status`."""

    def detach(self) -> None:
        """Detach the hooks; `pump` still handles earlier events."""

    def close(self) -> None:
        """Remove everything of the agent from the kernel."""


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
            raise self._error or AgentError("the rules could not be loaded")
        return self._ruleset


class _Check(threading.Thread):
    """Looks up the files that rules follow. That may hang, on a network file system."""

    def __init__(self, ruleset: Ruleset) -> None:
        super().__init__(name="follow", daemon=True)
        self.ruleset = ruleset
        self.changed = False

    def run(self) -> None:
        self.changed = self.ruleset.followed.changed()


class Service:
    """The event loop. `load` reads the current rule files and raises RuleErrors for invalid ones."""

    def __init__(
        self,
        watch: Watch,
        load: Callable[[], Ruleset],
        reporter: Reporter,
        dispatcher: Dispatcher,
        enricher: Enricher,
        notifier: Notifier | None = None,
        heartbeat_s: float = HEARTBEAT_S,
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
        self._ruleset = Ruleset([])
        self._followed_at = 0.0
        self._check: _Check | None = None
        self._left_out: list[str] = []  # the errors of rules that are not in force
        self._notifier = notifier or Notifier({})
        self._alive = Alive(self.state, reporter.own, heartbeat_s, clock)
        self._mutes = reporter.mutes
        self._handlers: control.Handlers = {
            "status": lambda _: self.state(),
            "reload": lambda _: self.reload(),
            "mute": self.mute,
        }

    def enforce(self, ruleset: Ruleset, cause: str = "start") -> None:
        """Apply rules to events and reports; `cause` is in the event about it."""
        self._watch.enforce(ruleset)
        # A user who exchanges files that rules follow renews them at will. That must not reset the limits
        # of reports, nor fill the log.
        known = self._ruleset if cause == RENEWED else Ruleset([])
        if cause != RENEWED:
            self._reporter.limit.forget()
        self._ruleset = ruleset
        self._reporter.rules = ruleset.rules
        self._left_out = [problem.summary for problem in ruleset.left_out]
        self._alive.enforced(ruleset, cause)
        self._note([note for note in ruleset.notes if note not in known.notes])
        for problem in ruleset.left_out:
            if problem not in known.left_out:
                log(f"left out: {problem}")

    def _note(self, notes: Sequence[str]) -> None:
        for note in notes[:MAX_NOTES]:
            log(note)
        if len(notes) > MAX_NOTES:
            log(f"{len(notes) - MAX_NOTES} more notes about the rules: run `agent explain` to see all")

    def reload(self) -> control.Reply:
        """Load the rules again. If they have errors, the old rules stay and the reply has the errors."""
        try:
            ruleset = self._load_aside(self._load)
            self.enforce(ruleset, "reload")
        except AgentError as error:
            self._reloads["failed"] += 1
            self._alive.refused(error)
            log("\n".join(filter(None, (f"the old rules stay in force: {error.message}", error.detail))))
            return {
                "error": f"the old rules stay in force: {error.message}",
                "hint": error.hint,
                "detail": error.detail,
            }
        self._reloads["ok"] += 1
        log(f"reloaded: {len(ruleset.rules)} rules in force")
        return {"rules": len(ruleset.rules)}

    def mute(self, request: control.Arguments) -> control.Reply:
        """Mute or end a mute as requested, and return all mutes, or an error."""
        try:
            if "end" in request:
                self._mutes.end(int(request["end"]))
            elif "seconds" in request:
                texts = (str(request.get(name, "")) for name in ("rule", "path", "reason"))
                rule, path, reason = texts
                self._mutes.add(rule, path, float(request["seconds"]), reason, int(request["uid"]))
        except AgentError as error:
            return {"error": error.message, "hint": error.hint}
        except (TypeError, ValueError) as error:
            return {"error": f"invalid request: {error}"}
        return self._mutes.state()

    def _follow(self) -> None:
        """Follow the files that have taken a path of `any_path` since the rules were loaded."""
        renew, now, check = self._ruleset.renew, self._clock(), self._check
        if check and not check.is_alive():
            self._check = None
            if check.changed and check.ruleset is self._ruleset and renew:
                self._renew(renew)
        elif renew and not check and now >= self._followed_at:
            self._followed_at = now + FOLLOWED_S
            self._check = _Check(self._ruleset)
            self._check.start()

    def _renew(self, renew: Callable[[], Ruleset]) -> None:
        begun = self._clock()
        try:
            self.enforce(self._load_aside(renew), RENEWED)
            now = self._clock()
            self._followed_at = now + max(FOLLOWED_S, FOLLOWED_REST * (now - begun))
        except AgentError as error:
            self._followed_at = self._clock() + FOLLOWED_RETRY_S
            log(f"files of `any_path` have changed, and are not followed: {error.message}")

    def _load_aside(self, load: Callable[[], Ruleset]) -> Ruleset:
        """Load in a thread, so that events meanwhile do not wait in the ring buffer."""
        loading = _Loading(load)
        loading.start()
        while loading.is_alive():
            if self._stopping:  # a network file system may hang
                raise AgentError("the agent stops")
            self._watch.pump(LOADING_POLL_MS)
            self._notifier.alive()
        return loading.result()

    def state(self) -> dict[str, Any]:
        """Return what `agent status` prints, from which the metrics are derived."""
        return {
            "uptime_s": round(self._clock() - self._started, 3),
            "rules": len(self._reporter.rules),
            "rule_errors": len(self._left_out),
            "rules_left_out": self._left_out,
            "reloads": dict(self._reloads),
            **self._watch.state(),
            "context": self._enricher.counters(),
            "hash": asdict(self._reporter.hasher.counters),
            "rate_limited": self._reporter.limit.suppressed(),
            "muted": {"active": len(self._mutes.active), "held": self._mutes.held},
            "explained": {**asdict(self._reporter.explainer.counters), "held": self._reporter.explainer.held},
            "sinks": self._dispatcher.status(),
        }

    def run(self) -> int:
        """Run until `stop`, then deliver the rest; return how many matches remain undelivered."""
        self._notifier.send("READY=1")
        while not self._stopping:
            self._watch.pump(POLL_MS)
            self._notifier.alive()
            self._note(self._alive.tick())
            self._mutes.tick()
            self._follow()
            self.mailbox.answer(self._handlers)
            if self._reload_wanted:
                self._reload_wanted = False
                self.reload()
                self._dispatcher.reopen()
        self._notifier.send("STOPPING=1")
        self.mailbox.close()
        self._watch.detach()
        while self._watch.pump(0):
            pass
        self._reporter.explainer.close()
        self._mutes.store()
        self._alive.stop()
        return self._dispatcher.close()

    def stop(self) -> None:
        """End `run`. A signal handler may call this."""
        self._stopping = True

    def want_reload(self) -> None:
        """Request a reload of the rules and new files. A signal handler may call this."""
        self._reload_wanted = True
