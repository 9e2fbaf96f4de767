"""Every option of the agent that its page names is given to the real command line, and does what it says.

The kernel is a fake; what attaches hooks is run in guests.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli import main
from tests import ROOT

CHILD = """
import sys, threading
from agent.cli import main
from agent.commands import run as command
from agent.events.model import Event, EventType, File

class Watch:
    def __init__(self, options, ruleset, context, matched):
        self._context, self._matched, self._left = context, matched, 3
        self._names = list(ruleset.rules)
        self.options = options
    def enforce(self, ruleset): pass
    def pump(self, timeout_ms):
        threading.Event().wait(timeout_ms / 1000)
        self._left -= 1
        if self._left >= 0:
            event = Event(EventType.OPEN, 5, 1, 1, file=File(b"/etc/watched"))
            self._matched(event, self._context(event), self._names)
        return 0
    def state(self):
        return {"ledger": {}, "coverage": {}, "limits": {"open": f"hooks: {self.options.hookset}"}}
    def detach(self): pass
    def close(self): pass

command.open_watch = Watch
sys.exit(main(sys.argv[1:]))
"""
POLICY = """rules:
  - {id: good, expression: 'open.file.path == "/etc/watched"'}
  - {id: bad, expression: 'open.file.pth == "/x"'}
"""
_OPTION = re.compile(r"--[a-z][a-z-]+")
# Of other programs, in lines to paste.
OTHERS = {"--new", "--tag", "--test"}


class Running:
    """An agent with all options at once, and what it can reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "p.policy").write_text(POLICY)
        self.log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.log.bind(str(folder / "log"))
        self.log.settimeout(30)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.control = ("--control", str(folder / "control.sock"))
        self.argv = [
            *("run", "--rules", str(folder / "p.policy"), "--bad-rules", "leave-out"),
            *(
                "--output",
                str(folder / "out"),
                "--format",
                "ecs",
                "--syslog",
                f"unix:{folder}/log",
                "--journald",
            ),
            *("--otlp", "http://127.0.0.1:1"),
            *("--spool", str(folder / "spool"), "--spool-bytes", "100000", "--rate-limit", "0.001"),
            *("--hash-changed", "--metrics-port", str(self.port), "--state", str(folder / "state")),
            *("--heartbeat", "1", "--hookset", "kprobe", *self.control),
        ]
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, *self.argv], stderr=subprocess.PIPE, text=True, cwd=ROOT
        )
        self.stderr = ""
        self.until("watching")

    def until(self, text: str) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.stderr += line
            if text in line:
                return
        raise AssertionError(f"the agent ended: {self.stderr}")

    def ask(self, *words: str) -> dict[str, object]:
        """Return the answer of a command to this agent."""
        argv = [sys.executable, "-m", "agent", *words, *self.control]
        done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def end(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=60)
        return self._process.returncode

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self.log.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    made = Running(tmp_path_factory.mktemp("options"))
    yield made
    made.close()


TLS = ("run", "--rules", "agent/policies", "--syslog", "tls://127.0.0.1:1", "--syslog-ca", "/none")
ASKED = (
    ("status",),
    ("mute", "--for", "1h", "--rule", "none", "--path", "/none/**", "--reason", "test"),
    ("mute", "--list"),
    ("mute", "--end", "1"),
)


def test_what_each_option_does(running: Running) -> None:
    """Seen from outside: in the log, the files, the sockets, the metrics and the answers."""
    first = json.loads(b"{" + running.log.recv(65536).partition(b" - {")[2])
    while b"agent.heartbeat" not in running.log.recv(65536):  # --heartbeat
        pass
    status, muted, listed, ended = (running.ask(*words) for words in ASKED)
    assert "left out" in running.stderr  # --bad-rules
    assert "hooks: kprobe" in running.stderr  # --hookset
    assert first["ecs"]["version"]  # --syslog, --format
    assert set(status["sinks"]) == {"file", "otlp", "syslog", "journald"}  # type: ignore[call-overload]
    assert status["rate_limited"] == {"good": 2}  # --rate-limit
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=30) as answer:
        assert b"fim_muted" in answer.read()  # --metrics-port
    assert len(muted["active"]) == len(listed["active"]) == 1  # type: ignore[arg-type]
    assert ended["active"] == []
    assert (running.folder / "state/mutes.json").exists()
    running.end()
    lines = [json.loads(line) for line in (running.folder / "out").read_text().splitlines()]
    assert {line["rule"]["id"] for line in lines} >= {"good", "agent.rules", "agent.heartbeat", "agent.mute"}
    assert list((running.folder / "spool").glob("*.spool"))


def test_certificates_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """`--syslog-ca` is read at the start; `test_syslog.py` sends over TLS with such a file."""
    assert main([*TLS]) == 2
    assert "cannot read certificates from /none" in capsys.readouterr().err


def test_no_documented_option_is_left_out(running: Running) -> None:
    """Those of docs/operations.md are in the command lines above."""
    page = (ROOT / "docs/operations.md").read_text()
    used = {word for words in (running.argv, TLS, *ASKED) for word in words if word.startswith("--")}
    assert set(_OPTION.findall(page)) - used - OTHERS == set()
