"""The event loop: a reload happens completely or not at all, and an end leaves nothing behind."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.context.enrich import Enricher
from agent.context.hashing import Hasher
from agent.errors import AgentError, RuleErrors
from agent.events.actors import Context
from agent.events.model import Event, EventType, File
from agent.rules.engine import Rule, Ruleset
from agent.rules.followed import Followed, Target
from agent.rules.problems import Problem
from agent.service.control import Mailbox, Reply
from agent.service.loop import MAX_NOTES, Service
from agent.service.metrics import render
from agent.sinks.dispatch import Dispatcher, Outlet
from agent.sinks.ratelimit import RateLimit
from agent.sinks.render import Renderer
from agent.sinks.report import Reporter
from tests.agent.context.conftest import FakeHost
from tests.agent.sinks.test_dispatch import FakeSink


def ruleset(*rules: Rule) -> Ruleset:
    made = Ruleset([])
    made.rules.update({rule.id: rule for rule in rules})
    return made


class FakeWatch:
    """Reports every event in `coming` as a match of all active rules."""

    def __init__(self) -> None:
        self.coming: deque[Event] = deque()
        self.log: list[str] = []
        self.rules: Ruleset | None = None
        self.reporter: Reporter | None = None
        self.then: Callable[[], None] = lambda: None

    def enforce(self, ruleset: Ruleset) -> None:
        self.log.append("enforce " + ",".join(ruleset.rules))
        self.rules = ruleset

    def pump(self, timeout_ms: int) -> int:
        count = len(self.coming)
        while self.coming:
            event = self.coming.popleft()
            assert self.reporter is not None
            assert self.rules is not None
            self.reporter.matched(event, Context(), list(self.rules.rules))
        self.then()
        return count

    def state(self) -> dict[str, Any]:
        return {"ledger": {"open": {"delivered": 1}}}

    def detach(self) -> None:
        self.log.append("detach")

    def close(self) -> None:
        self.log.append("close")


class Bench:
    """A service with fakes."""

    def __init__(self, host: FakeHost) -> None:
        self.watch, self.sink = FakeWatch(), FakeSink()
        self.answers: list[Ruleset | AgentError] = []
        dispatcher = Dispatcher([Outlet(self.sink)])
        dispatcher.start()
        self.reporter = Reporter(Renderer({}), dispatcher, RateLimit(0), Hasher())
        self.watch.reporter = self.reporter
        enricher = Enricher(host.root, host.proc_fs())
        self.service = Service(self.watch, self._load, self.reporter, dispatcher, enricher)
        self.service.enforce(ruleset(Rule("old", "")))

    def _load(self) -> Ruleset:
        self.watch.log.append(f"load, main {threading.current_thread() is threading.main_thread()}")
        answer = self.answers.pop(0)
        if isinstance(answer, AgentError):
            raise answer
        return answer

    def matches(self) -> list[bytes]:
        """Return the lines about files, without the agent's own events."""
        return [line for line in self.sink.lines if b'"event":' in line]

    def checked(self) -> None:
        """Wait until the files that the rules follow have been looked up."""
        check = self.service._check
        assert check
        check.join()

    def run(self, steps: Sequence[Callable[[], None]]) -> int:
        """Run one step after each pump, and stop after the last."""
        pending = deque([*steps, self.service.stop])

        def step() -> None:
            if pending:
                pending.popleft()()

        self.watch.then = step
        return self.service.run()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(FakeHost(tmp_path))


def test_events_before_the_end_are_judged_and_delivered(bench: Bench) -> None:
    late = Event(EventType.OPEN)
    assert bench.run([lambda: bench.watch.coming.append(late)]) == 0
    assert bench.watch.log[-1] == "detach"
    assert len(bench.matches()) == 1
    assert bench.sink.calls[-1] == "close"


def test_rules_that_were_left_out_are_reported_until_a_reload(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the log with their place, in the state as lines, and in the metrics as a number."""
    started = Ruleset([], [Problem("a.yaml", 3, 5, "unknown field `x`", hint="did you mean y?")])
    started.notes = ("b.policy is not read: it is a directory",)
    bench.service.enforce(started)
    printed = capsys.readouterr().err
    assert "fim-agent: b.policy is not read: it is a directory\n" in printed
    assert "fim-agent: left out: a.yaml:3:5: unknown field `x`\n    did you mean y?\n" in printed
    state = bench.service.state()
    assert (state["rule_errors"], state["rules_left_out"]) == (1, ["a.yaml:3:5: unknown field `x`"])
    assert "fim_rule_errors 1\n" in render(state)
    bench.answers = [RuleErrors(["bad"]), ruleset(Rule("b", ""))]
    bench.service.reload()
    assert bench.service.state()["rule_errors"] == 1
    bench.service.reload()
    assert bench.service.state()["rule_errors"] == 0


def test_notes_about_rules_are_bounded(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    rules = Ruleset([])
    rules.notes = tuple(f"note {number}" for number in range(MAX_NOTES + 3))
    bench.service.enforce(rules)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == MAX_NOTES + 1
    assert lines[-1] == "fim-agent: 3 more notes about the rules: run `agent explain` to see all"


def test_a_reload_loads_completely_before_it_takes_effect(bench: Bench) -> None:
    bench.answers = [ruleset(Rule("a", ""), Rule("b", ""))]
    bench.run([bench.service.want_reload, lambda: None])
    assert bench.watch.log == ["enforce old", "load, main False", "enforce a,b", "detach"]
    assert "reopen" in bench.sink.calls
    assert list(bench.reporter.rules) == ["a", "b"]


def test_bad_rules_are_reported_and_the_old_ones_stay_active(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.answers = [RuleErrors(["x.yaml:3:7: unknown field"])]
    reply = bench.service.reload()
    assert reply["error"] == "the old rules stay in force: 1 error in rule files"
    assert reply["detail"] == "x.yaml:3:7: unknown field"
    assert "x.yaml:3:7: unknown field" in capsys.readouterr().err
    assert list(bench.reporter.rules) == ["old"]
    assert bench.service.state()["reloads"] == {"ok": 0, "failed": 1}
    bench.run([])
    own = [json.loads(line)["agent"] for line in bench.sink.lines if b'"rule":"agent.rules"' in line]
    assert [(event["cause"], event["outcome"]) for event in own] == [("start", "ok"), ("reload", "failed")]


def followed(*, changed: bool, renew: Callable[[], Ruleset]) -> Ruleset:
    """Return rules that follow a file, which may be another one by now."""
    rules = ruleset(Rule("following", ""))
    files = iter((Target(b"/a", 1, 1), Target(b"/a", 1, 2 if changed else 1)))
    rules.followed = Followed(lambda path: next(files))
    rules.followed.follow(b"/a")
    rules.renew = renew
    return rules


@pytest.mark.parametrize("changed", [True, False])
def test_a_changed_file_of_any_path_is_followed(bench: Bench, changed: bool) -> None:
    """The rules are linked again, without reading the rule files."""
    bench.service.enforce(followed(changed=changed, renew=lambda: ruleset(Rule("renewed", ""))))
    assert bench.run([lambda: None, bench.checked, lambda: None]) == 0
    assert ("enforce renewed" in bench.watch.log) is changed
    assert not [line for line in bench.watch.log if line.startswith("load")]


def test_files_of_any_path_that_cannot_be_followed_are_logged(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rules stay, and the loop goes on."""

    def refuse() -> Ruleset:
        raise AgentError("no room")

    bench.service.enforce(followed(changed=True, renew=refuse))
    assert bench.run([lambda: None, bench.checked, lambda: None]) == 0
    assert "enforce following" in bench.watch.log
    assert capsys.readouterr().err.count("are not followed: no room") == 1


def test_a_changed_file_resets_no_limit_and_repeats_no_note(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """A user who exchanges a file that rules follow does not make them report more, nor fill the log."""
    admit = bench.reporter.limit.admit
    renewed = ruleset(Rule("following", ""))
    renewed.left_out = (Problem("a.yaml", 3, 5, "unknown field"),)
    renewed.notes = ("known", "new")
    rules = followed(changed=True, renew=lambda: renewed)
    rules.left_out, rules.notes = renewed.left_out, ("known",)
    bench.service.enforce(rules)
    assert admit("following", 3600.0)
    assert bench.run([lambda: None, bench.checked, lambda: None]) == 0
    assert "enforce following" in bench.watch.log[1:]
    assert not admit("following", 3600.0)
    log = capsys.readouterr().err
    assert [log.count(text) for text in ("known\n", "new\n", "unknown field")] == [1, 1, 1]


def test_a_file_that_changes_all_the_time_takes_a_small_part_of_the_time(bench: Bench) -> None:
    """After a renewal the next look waits twenty times as long as that took."""
    service, now = bench.service, [100.0]
    service._clock = lambda: now[0]

    def renew() -> Ruleset:
        now[0] += 3.0
        return followed(changed=True, renew=renew)

    service.enforce(followed(changed=True, renew=renew))
    service._follow()
    bench.checked()
    service._follow()
    now[0] += 59.0
    service._follow()
    assert service._check is None
    now[0] += 1.0
    service._follow()
    bench.checked()
    bench.run([])


def test_if_the_kernel_refuses_the_old_rules_stay_active(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Ruleset) -> None:
        raise AgentError("no room")

    bench.answers = [ruleset(Rule("new", ""))]
    with monkeypatch.context() as patch:
        patch.setattr(bench.watch, "enforce", refuse)
        assert "no room" in bench.service.reload()["error"]
    assert list(bench.reporter.rules) == ["old"]
    bench.run([])


def test_rules_that_load_without_end_do_not_keep_the_agent_from_stopping(bench: Bench) -> None:
    """As on a network file system of which the server does not answer."""
    release, loaded = threading.Event(), list[bool]()

    def hang() -> Ruleset:
        loaded.append(release.wait(10))
        return ruleset()

    bench.service._load = hang
    assert bench.run([bench.service.want_reload, lambda: None]) == 0
    assert not loaded
    assert list(bench.reporter.rules) == ["old"]
    release.set()


def test_events_are_judged_while_rules_load(bench: Bench) -> None:
    release = threading.Event()
    load = bench._load

    def slow() -> Ruleset:
        release.wait(10)
        return load()

    bench.answers = [ruleset(Rule("new", ""))]
    bench.service._load = slow
    bench.watch.coming.append(Event(EventType.OPEN))
    bench.watch.then = release.set
    bench.service.reload()
    assert not bench.watch.coming
    bench.run([])
    assert bench.matches()[0].startswith(b'{"rule":"old"')


def test_requests_are_answered_by_the_loop_until_it_ends(bench: Bench) -> None:
    replies: list[Reply] = []
    asker = threading.Thread(target=lambda: replies.append(bench.service.mailbox.ask("status")))

    def wait_for_reply() -> None:
        bench.watch.then = bench.service.stop if replies else wait_for_reply

    asker.start()
    bench.watch.then = wait_for_reply
    bench.service.run()
    asker.join()
    assert replies[0]["ledger"] == {"open": {"delivered": 1}}
    assert {"uptime_s", "rules", "context", "sinks", "hash", "rate_limited"} <= set(replies[0])
    assert bench.service.mailbox.ask("status") == {"error": "the agent is stopping"}


def test_mutes_are_requested_listed_and_ended(bench: Bench) -> None:
    """The state counts the matches held back; the start and the end are events."""
    bench.service.mute({"seconds": 60, "rule": "old", "reason": "r", "uid": 5})
    bench.watch.coming.append(Event(EventType.OPEN, file=File(b"/x")))
    bench.watch.pump(0)
    (muted,) = bench.service.mute({})["active"]
    assert (muted["matches"], muted["uid"], muted["path"]) == ({"old /x": 1}, 5, "/**")
    assert bench.service.state()["muted"] == {"active": 1, "held": 1}
    assert bench.service.mute({"end": 7})["error"] == "no mute 7 is in force"
    assert "invalid request" in bench.service.mute({"end": "x"})["error"]
    assert bench.service.mute({"end": muted["id"]})["active"] == []
    bench.run([])
    assert bench.matches() == []
    own = [json.loads(line)["agent"] for line in bench.sink.lines if b'"rule":"agent.mute"' in line]
    assert [(event["state"], event["held"]) for event in own] == [("started", 0), ("ended", 1)]


def test_a_closed_mailbox_answers_waiting_requests() -> None:
    mailbox = Mailbox()
    replies: list[Reply] = []
    asker = threading.Thread(target=lambda: replies.append(mailbox.ask("status")))
    asker.start()
    mailbox.close()
    asker.join()
    assert replies == [{"error": "the agent is stopping"}]
