"""Two agents at once in one guest: the same rules, with the kernel's filters and without them."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.ledger import Account, identities
from harness.guest.base import Channel, Guest

UNFILTERED = Path(__file__).with_name("guest_unfiltered.py")
_PROGRAMS = {"on": "-m agent", "off": "/root/guest_unfiltered.py"}
_POLICY = "/root/pair.yaml"
_START = (
    "cd /opt/fim && PYTHONPATH=/opt/fim exec nice -n -15 python3 $PROGRAM run --rules $POLICY --rate-limit 0 "
    "--output /run/$NAME.json --control /run/$NAME.sock 2>&1"
)
_MARK = 'open.file.path =~ "/run/mark-*"'
_ASK = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b"status\\n")
print(client.makefile().readline())
"""
_START_S = 300.0
_SETTLE_S = 1800.0

Kinds = Counter[tuple[object, ...]]


class Pair:
    """Both agents; the guest stores matches until they are requested."""

    def __init__(self, guest: Guest, channels: dict[str, Channel]) -> None:
        self.guest = guest
        self._channels = channels
        self._marks = 0

    def settled(self) -> dict[str, Kinds]:
        """Return the matches since the last call of this, with both agents idle, by agent and kind."""
        self._marks += 1
        mark = f"/run/mark-{self._marks}"
        self.guest.run(["touch", mark])
        for name in _PROGRAMS:
            wait = f"tail -n +1 -f /run/{name}.json | grep -q -m 1 {mark}"
            done = self.guest.run(["timeout", str(int(_SETTLE_S)), "sh", "-c", wait], _SETTLE_S + 60)
            assert done.status == 0, f"the agent with filters {name} does not catch up: {self._ended(name)}"
        return {name: self._taken(name) for name in _PROGRAMS}

    def status(self, name: str) -> dict[str, Any]:
        """Return what an agent counts."""
        found: dict[str, Any] = json.loads(
            self.guest.run(["python3", "-ISc", _ASK, f"/run/{name}.sock"]).stdout
        )
        return found

    def faults(self) -> list[str]:
        """Return what is wrong in the ledgers: equations that do not hold, and losses."""
        found = []
        for name in _PROGRAMS:
            status = self.status(name)
            for kind, row in status["ledger"].items():
                equations = [str(each) for each in identities(Account(**row)) if not each.holds]
                lost = Account(**row).lost
                found += [f"filters {name}, {kind}: {text}" for text in equations]
                found += [f"filters {name}, {kind}: {lost} lost, {row}"] if lost else []
        return found

    def _taken(self, name: str) -> Kinds:
        with tempfile.NamedTemporaryFile() as file:
            self.guest.get(f"/run/{name}.json", Path(file.name))
            lines = Path(file.name).read_bytes().splitlines()
        self.guest.run(["truncate", "-s", "0", f"/run/{name}.json"])
        return Counter(
            kind(json.loads(line.lstrip(b"\0")))
            for line in lines
            if b"/run/mark-" not in line and b'"event":' in line
        )

    def _ended(self, name: str) -> str:
        return self._channels[name].stderr_tail().decode(errors="replace")


def kind(match: dict[str, Any]) -> tuple[object, ...]:
    """Return the part of a match on which two agents must agree: all but its time, host and hash."""
    event, process = match["event"], match["process"]
    keys = ("type", "path", "destination", "retval", "flags", "mode", "name")
    return (match["rule"], process["pid"], process.get("comm"), *(str(event.get(key)) for key in keys))


@contextlib.contextmanager
def running(guest: Guest, rules: dict[str, str]) -> Iterator[Pair]:
    """Start both agents; end them afterwards. Raises AssertionError for one that does not start."""
    entries = [{"id": name, "expression": text} for name, text in {**rules, "mark": _MARK}.items()]
    guest.put_bytes(json.dumps({"rules": entries}).encode(), _POLICY)
    guest.put(UNFILTERED, "/root/guest_unfiltered.py")
    with contextlib.ExitStack() as stack:
        channels = {}
        for name, program in _PROGRAMS.items():
            words = ["env", f"NAME={name}", f"PROGRAM={program}", f"POLICY={_POLICY}", "sh", "-c", _START]
            channel = channels[name] = guest.open_channel(words)
            stack.callback(channel.close)
            log: list[bytes] = []
            while not log or b"watching" not in log[-1]:
                line = channel.readline(_START_S)
                assert line is not None, f"the agent with filters {name} did not start: {log}"
                log.append(line)
        yield Pair(guest, channels)
