"""Runs `agent run` in a guest and reads its output like a log shipper."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from harness.guest.base import Channel, Guest

POLICY = "/root/policy.yaml"
_AGENT = ("-m", "agent")
_PID = "/run/agent.pid"
_START_S = 180.0
_LINE_S = 120.0
_START = (
    f"cd /opt/fim && echo $$ >{_PID} && PYTHONPATH=/opt/fim "
    f'exec $UNDER python3 $PROGRAM run --rules {POLICY} "$@" 2>&1'
)

Match = dict[str, Any]


class Daemon:
    """A running agent. Log and matches are on one stream, in the order of writing."""

    def __init__(self, guest: Guest, channel: Channel, pid: int) -> None:
        self.pid = pid
        self.log: list[str] = []
        self.own: list[Match] = []  # events of the agent itself
        self.guest = guest
        self._channel = channel
        self._sentinels = 0

    @classmethod
    def start(
        cls,
        guest: Guest,
        policy: bytes,
        *options: str,
        program: Sequence[str] = (),
        under: Sequence[str] = (),
    ) -> Daemon:
        """Start the agent and wait until it watches.

        `program` replaces the agent as Python's arguments; `under` is a command that runs Python.
        """
        guest.put_bytes(policy, POLICY)
        words = [f"PROGRAM={' '.join(program or _AGENT)}", f"UNDER={' '.join(under)}"]
        channel = guest.open_channel(["env", *words, "sh", "-c", _START, "agent", *options])
        daemon = cls(guest, channel, 0)
        daemon.read(lambda line: "watching" in line, _START_S)
        daemon.pid = int(guest.run(["cat", _PID]).stdout)
        return daemon

    def read(self, enough: Callable[[str], bool], timeout_s: float = _LINE_S) -> list[Match]:
        """Return the matches up to the line for which `enough` holds, which must come."""
        matches = []
        while (line := self._channel.readline(timeout_s)) is not None:
            text = line.decode("ascii")
            matches += self._take(text)
            if enough(text):
                return matches
        raise AssertionError(f"the agent ended: {self.log}")

    def rest(self) -> list[Match]:
        """Return all matches until the agent ends."""
        matches = []
        while (line := self._channel.readline(_LINE_S)) is not None:
            matches += self._take(line.decode("ascii"))
        return matches

    def settled(self) -> list[Match]:
        """Touch a sentinel file and wait for its match; return the matches before it."""
        self._sentinels += 1
        name = f"/w/sentinel-{self._sentinels}"
        assert self.guest.run(["touch", name]).status == 0
        matches = self.read(lambda line: f'"path":"{name}"' in line)
        return [match for match in matches if "/sentinel-" not in match["event"]["path"]]

    def signal(self, name: str) -> None:
        """Send a signal by its name for `kill`."""
        assert self.guest.run(["kill", f"-{name}", str(self.pid)]).status == 0

    def reload(self, policy: bytes) -> list[Match]:
        """Replace the rules; return the matches until the agent logs the result."""
        self.guest.put_bytes(policy, POLICY)
        self.signal("HUP")
        return self.read(lambda line: line.startswith("fim-agent: "))

    def status(self) -> dict[str, Any]:
        """Return the output of `agent status`."""
        done = self.guest.run(["sh", "-c", "cd /opt/fim && exec python3 -m agent status"])
        assert done.status == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def wait(self) -> int:
        """Wait and return the exit status as a shell reports it."""
        return self._channel.wait(_LINE_S)

    def close(self) -> None:
        """Kill the agent if it still runs."""
        self.guest.run(["kill", "-CONT", str(self.pid)])
        self.guest.run(["kill", "-KILL", str(self.pid)])
        self._channel.close()

    def _take(self, line: str) -> list[Match]:
        if line.startswith("{"):
            match = json.loads(line)
            self.own += [match] if "agent" in match else []
            return [match] if "event" in match else []
        self.log.append(line)
        return []


@contextlib.contextmanager
def running(
    guest: Guest, policy: bytes, *options: str, program: Sequence[str] = (), under: Sequence[str] = ()
) -> Iterator[Daemon]:
    """Start an agent, and end it at the end of the context."""
    daemon = Daemon.start(guest, policy, *options, program=program, under=under)
    try:
        yield daemon
    finally:
        daemon.close()


def rules(**expressions: str) -> bytes:
    """Return a policy with these rules by id."""
    listed = [{"id": name, "expression": expression} for name, expression in expressions.items()]
    return json.dumps({"rules": listed}).encode()
