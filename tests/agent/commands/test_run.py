"""`agent run` in a process of its own, with a fake kernel: start, signals, end."""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from agent.commands import run
from agent.errors import UsageError
from agent.service import control
from agent.service.options import RunOptions
from agent.service.start import open_sinks
from agent.sinks.spool import Spool

CHILD = """
import sys, threading
from pathlib import Path
from agent.errors import RuleErrors
from agent.events.model import Event, EventType, File
from agent.service.options import RunOptions
from agent.rules.engine import Ruleset
from agent.service.start import run

class Watch:
    def __init__(self, options, ruleset, context, matched):
        self._context, self._matched, self._late = context, matched, 3
        print("open", flush=True)
    def enforce(self, ruleset): print("enforce", flush=True)
    def pump(self, timeout_ms):
        if timeout_ms:
            threading.Event().wait(timeout_ms / 1000)
            return 0
        self._late -= 1
        if self._late < 0:
            return 0
        event = Event(EventType.OPEN, 5, 1, 1, file=File(b"/late"))
        self._matched(event, self._context(event), ["rule"])
        return 1
    def state(self):
        return {"ledger": {}, "coverage": {"open": "degraded"}, "limits": {"open": "by name only"}}
    def detach(self): print("detach", flush=True)
    def close(self): print("close", flush=True)

def load(paths, leave_out=False):
    if paths[0].read_text() == "bad":
        raise RuleErrors(["rules.yaml:1:1: no such field"])
    return Ruleset([])

folder = Path(sys.argv[1])
options = RunOptions((folder / "rules.yaml",), str(folder / "out.jsonl"), control=folder / "control.sock",
    state=folder / "state")
sys.exit(run(options, load, Watch))
"""


class Agent:
    """A running `agent run`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rules = folder / "rules.yaml"
        self.rules.write_text("good")
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.until("watching, 0 rules in force")

    def until(self, text: str) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if text in line:
                return
        raise AssertionError(f"the agent ended without printing {text!r}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str]:
        self.signal(signal.SIGTERM)
        out, _ = self._process.communicate(timeout=30)
        return self._process.returncode, out

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.kill()


def test_sigterm_delivers_the_events_before_it(agent: Agent) -> None:
    code, out = agent.end()
    assert (code, out.split()) == (0, ["open", "enforce", "detach", "close"])
    lines = [json.loads(line) for line in (agent.folder / "out.jsonl").read_bytes().splitlines()]
    assert [line["event"]["path"] for line in lines if "event" in line] == ["/late"] * 3
    assert lines[0]["rule"] == "agent.rules"
    assert (lines[-1]["rule"], lines[-1]["agent"]["stopping"]) == ("agent.heartbeat", True)
    assert not (agent.folder / "control.sock").exists()


def test_sighup_reloads_and_reports_errors(agent: Agent) -> None:
    agent.signal(signal.SIGHUP)
    agent.until("reloaded: 0 rules in force")
    agent.rules.write_text("bad")
    agent.signal(signal.SIGHUP)
    agent.until("the old rules stay in force")
    agent.until("rules.yaml:1:1: no such field")
    assert agent.end()[0] == 0


def test_status_and_reload_by_socket(agent: Agent) -> None:
    path = agent.folder / "control.sock"
    state = control.request(path, "status")
    assert state["reloads"] == {"ok": 0, "failed": 0}
    assert state["context"]["process_scanned"] > 0
    assert state["sinks"]["file"]["offered"] >= 1
    assert control.request(path, "reload") == {"rules": 0}
    if os.geteuid() == 0:
        assert f"NoNewPrivs:\t{1}" in Path(f"/proc/{agent._process.pid}/status").read_text()


@pytest.mark.parametrize("time", ["5x", "5", "-5s", "", "0s", "9" * 99 + "d"])
def test_a_mute_for_a_time_that_is_none(time: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says so without an agent."""
    with pytest.raises(SystemExit, match="2"):
        main(["mute", f"--for={time}", "--rule", "a", "--reason", "test"])
    assert f"invalid duration {time!r} (use 90s, 30m, 8h or 2d)" in capsys.readouterr().err


def test_a_mute_by_the_command_survives_a_kill(agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints the mutes; an invalid one is an error with a hint."""
    where = ["--control", str(agent.folder / "control.sock")]
    assert main(["mute", "--for", "30m", "--rule", "ru*", "--reason", "test", *where]) == 0
    printed = json.loads(capsys.readouterr().out)["active"][0]
    assert (printed["rule"], printed["until"] - printed["started"]) == ("ru*", 1800)
    assert main(["mute", "--for", "1h", "--reason", "all", *where]) == 1
    assert "would hold back everything" in capsys.readouterr().err
    assert main(["mute", "--reason", "endless", *where]) == 2
    agent.kill()
    again = Agent(agent.folder)
    assert main(["mute", "--list", *where]) == 0
    assert json.loads(capsys.readouterr().out)["active"] == [printed]
    code, _ = again.end()
    lines = [json.loads(line) for line in (agent.folder / "out.jsonl").read_bytes().splitlines()]
    assert (code, [line for line in lines if line["rule"] == "rule"]) == (0, [])


@pytest.mark.parametrize(
    ("option", "value", "remedy"),
    [
        ("--metrics-port", "99999", "use 1 to 65535"),
        ("--metrics-port", "-1", "use 1 to 65535"),
        ("--metrics-port", "http", "use 1 to 65535"),
        ("--rate-limit", "-5", "use 0 or more"),
        ("--rate-limit", "nan", "use 0 or more"),
        ("--rate-limit", "inf", "use 0 or more"),
        ("--burst", "-1", "use 0 or more"),
        ("--burst", "1.5", "use 0 or more"),
        ("--hash-max-bytes", "-3", "use 1 or more"),
        ("--spool-bytes", "0", "use 1 or more"),
        ("--heartbeat", "nan", "use 1 to 86400, or 0"),
    ],
)
def test_a_number_out_of_range_is_one_line(
    capsys: pytest.CaptureFixture[str], option: str, value: str, remedy: str
) -> None:
    """The agent does not start with a number that means nothing."""
    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["--rules", "x", f"{option}={value}"])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert option in last
    assert repr(value) in last
    assert remedy in last


class TestSinks:
    """A requested sink is opened, or its error is reported."""

    def test_nowhere(self) -> None:
        with pytest.raises(UsageError, match="no destination for matches"):
            open_sinks(RunOptions((), output=""))

    def test_a_file_that_cannot_be_opened(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"cannot write to .*: No such file"):
            open_sinks(RunOptions((), output=str(tmp_path / "none" / "out")))

    def test_a_spool_that_cannot_be_opened(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        options = RunOptions((), output="", otlp="http://127.0.0.1:1", spool=tmp_path / "file" / "spool")
        with pytest.raises(UsageError, match="cannot spool in"):
            open_sinks(options)

    def test_a_spool_on_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The agent starts without it: refused, it would evaluate no event until a user starts it."""

        def full(*_: object) -> Spool:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("agent.sinks.spool.Spool", full)
        options = RunOptions((), output="", otlp="http://127.0.0.1:1", spool=tmp_path / "spool")
        assert [sink.name for sink in open_sinks(options)] == ["otlp"]
        assert "cannot spool in" in capsys.readouterr().err

    @pytest.mark.parametrize("url", ["", "unix:/dev/log", "tcp://127.0.0.1:1"])
    def test_certificates_without_tls(self, tmp_path: Path, url: str) -> None:
        """An operator who names certificates expects them to be checked."""
        options = RunOptions((), syslog=url, syslog_ca=tmp_path / "ca.pem")
        with pytest.raises(UsageError, match="--syslog-ca is for --syslog tls:// only"):
            open_sinks(options)

    def test_syslog_and_the_journal(self) -> None:
        """The agent starts although a server is missing."""
        options = RunOptions((), output="", syslog="tcp://127.0.0.1:1", journald=True)
        assert [sink.name for sink in open_sinks(options)] == ["syslog", "journald"]

    def test_both(self, tmp_path: Path) -> None:
        options = RunOptions((), str(tmp_path / "o"), otlp="http://127.0.0.1:1", spool=tmp_path / "spool")
        sinks = open_sinks(options)
        assert [sink.name for sink in sinks] == ["file", "otlp"]
        for sink in sinks:
            sink.close()
