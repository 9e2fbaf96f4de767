"""The agent's own events: heartbeats that prove that hooks fire, losses, and the active rules."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.errors import RuleErrors
from agent.events.model import Event, EventType, File
from agent.rules.engine import Ruleset
from agent.rules.load import load, loads
from agent.service.alive import HEARTBEAT_S, LINKS_S, LOSS_S, PROBE_S, Alive, is_probe, probe

OPENS = "rules:\n  - {id: a, expression: 'open.file.path == \"/etc/passwd\"'}\n"


class Host:
    """Counts events; `hooks` are the types whose hooks see the agent's child process."""

    def __init__(self, hooks: tuple[str, ...] = ("exit", "open")) -> None:
        self.now = 0.0
        self.hooks = hooks
        self.ledger = {kind: {"seen": 5, "delivered": 5, "matched": 0} for kind in ("exit", "open", "unlink")}
        self.more: dict[str, Any] = {"lost": 0, "undecodable": 0, "lost_by_user": {}}
        self.dropped = 0
        self.reports: list[tuple[str, dict[str, Any]]] = []
        self.alive = Alive(self.state, self._report, clock=lambda: self.now, make_events=self._make_events)
        self.alive.enforced(loads(OPENS), "start")

    def state(self) -> Mapping[str, Any]:
        ledger = {kind: dict(row) for kind, row in self.ledger.items()}
        sinks = {"file": {"delivered": 1, "dropped": self.dropped, "queued": 0}}
        more = {"uptime_s": self.now, "rules": 1, "rate_limited": {"a": 2}, "muted": {"held": 4}}
        more |= self.more
        return {"ledger": ledger, "sinks": sinks, **more}

    def _report(self, kind: str, members: Mapping[str, Any]) -> None:
        self.reports.append((kind, dict(members)))

    def _make_events(self) -> None:
        for kind in self.hooks:
            self.ledger[kind]["seen"] += 1
            self.ledger[kind]["delivered"] += 1

    def tick(self, seconds: float) -> tuple[str, ...]:
        self.now += seconds
        return self.alive.tick()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [members for name, members in self.reports if name == kind]


def test_a_quiet_host_has_heartbeats() -> None:
    """The first comes a second after the start, then one each interval, without a gap; no type is blind."""
    host = Host()
    for seconds in (0.0, PROBE_S, HEARTBEAT_S - PROBE_S, PROBE_S):
        host.tick(seconds)
    beats = host.of("heartbeat")
    assert [(beat["number"], beat["blind"], beat["stopping"]) for beat in beats] == [
        (1, [], False),
        (2, [], False),
    ]
    assert beats[1]["events"]["open"] == {"seen": 7, "delivered": 7, "matched": 0}
    assert (beats[1]["rate_limited"], beats[1]["lost"], beats[1]["uptime_s"]) == (2, 0, HEARTBEAT_S + PROBE_S)
    assert host.of("loss") == []


@pytest.mark.parametrize(("hooks", "blind"), [((), ["exit", "open"]), (("exit",), ["open"])])
def test_an_agent_whose_hooks_do_not_fire_is_blind(hooks: tuple[str, ...], blind: list[str]) -> None:
    host = Host(hooks)
    host.tick(0)
    host.tick(PROBE_S)
    assert host.of("heartbeat")[0]["blind"] == blind


def test_types_without_rules_are_not_blind() -> None:
    """Their hooks are not attached."""
    host = Host(("exit",))
    host.alive.enforced(Ruleset([]), "reload")
    host.tick(0)
    host.tick(PROBE_S)
    assert host.of("heartbeat")[0]["blind"] == []


def test_no_heartbeat_on_request() -> None:
    host = Host()
    host.alive = Alive(host.state, host._report, 0, lambda: host.now, host._make_events)
    host.tick(1000)
    assert host.of("heartbeat") == []


def test_a_loss_is_reported_once_with_its_user() -> None:
    """By type and cause, by user, and by sink; only new losses."""
    host = Host()
    host.ledger["open"]["ring_full"] = 3
    host.more["lost_by_user"] = {"1000": 3}
    host.dropped = 2
    host.tick(LOSS_S)
    assert host.of("loss") == [
        {"events": {"open": {"ring_full": 3}}, "by_user": {"1000": 3}, "dropped": {"file": 2}}
    ]
    host.tick(LOSS_S)
    host.ledger["open"]["ring_full"] = 4
    host.tick(LOSS_S)
    assert host.of("loss")[1:] == [{"events": {"open": {"ring_full": 1}}}]


def test_rules_in_force_are_reported_with_their_digest(tmp_path: Path) -> None:
    """The digest is of all files in their order; a failed reload names the rules that stay active."""
    (tmp_path / "default.policy").write_text(OPENS)
    (tmp_path / "a.policy").write_text(OPENS.replace("id: a", "id: b"))
    host = Host()
    host.alive.enforced(load([tmp_path]), "reload")
    host.alive.refused(RuleErrors(["a.policy:1:1: wrong"]))
    started, reloaded, failed = host.of("rules")
    assert (started["cause"], started["outcome"], started["rules"]) == ("start", "ok", 1)
    assert (reloaded["cause"], reloaded["rules"]) == ("reload", 2)
    files = [(tmp_path / name).read_bytes() for name in ("default.policy", "a.policy")]
    assert hashlib.sha256(b"".join(files)).hexdigest() == reloaded["digest"] == failed["digest"]
    assert (failed["outcome"], failed["error"], failed["detail"]) == (
        "failed",
        "1 error in rule files",
        "a.policy:1:1: wrong",
    )


def test_links_are_resolved_again(tmp_path: Path) -> None:
    """A changed link is printed once; the other lines are not repeated."""
    (tmp_path / "old").touch()
    link, policy = tmp_path / "link", tmp_path / "p.policy"
    link.symlink_to("old")
    policy.write_text(OPENS.replace("/etc/passwd", str(link)))
    host = Host()
    ruleset = load([policy])
    assert "events have" in ruleset.notes[0]
    host.alive.enforced(ruleset, "reload")
    assert host.tick(LINKS_S) == ()
    link.unlink()
    link.symlink_to("new")
    (line,) = host.tick(LINKS_S)
    assert line.endswith(f"{link} -> new: events have {tmp_path}/new")
    assert host.tick(LINKS_S) == ()


def test_the_last_heartbeat_says_that_the_agent_stops() -> None:
    host = Host()
    host.ledger["open"]["oversize"] = 1
    host.alive.stop()
    assert [kind for kind, _ in host.reports] == ["rules", "loss", "heartbeat"]
    assert host.of("heartbeat")[0]["stopping"]


def test_the_probe_leaves_no_child() -> None:
    """The child ends by itself, and is no zombie."""
    probe()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_events_of_the_probe_are_no_matches() -> None:
    """Only the agent's own child is meant; others that open or execute the same file are reported."""
    null = File(b"/dev/null")
    for kind in (EventType.OPEN, EventType.EXEC):
        assert is_probe(Event(kind, ppid=os.getpid(), file=null))
        assert not is_probe(Event(kind, ppid=1, file=null))
        assert not is_probe(Event(kind, ppid=os.getpid(), file=File(b"/etc/passwd")))
    assert not is_probe(Event(EventType.UNLINK, ppid=os.getpid(), file=null))
