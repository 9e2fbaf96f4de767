"""Runs `agent run` as a process, for scenarios that stop or kill it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.errors import AgentError

_OWN = b'{"rule":"agent.'  # events of the agent itself, which have no file
_PACKAGE = Path(__file__).resolve().parents[2]


class ResidentError(AgentError):
    """The agent did not start or did not end in time."""


class Resident:
    """A running agent that writes its matches to a file.

    Creating one waits until the agent watches. Raises ResidentError after `patience_s`. `under` is a command
    that starts the agent's.
    """

    def __init__(
        self,
        folder: Path,
        rules: Mapping[str, str],
        options: Sequence[str],
        patience_s: float,
        under: Sequence[str] = (),
    ) -> None:
        self._patience_s = patience_s
        self._output = folder / "matches.jsonl"
        self._policy = folder / "policy.yaml"
        self._control = folder / "control"
        self._write(rules)
        own: list[str | Path] = ["--output", self._output, "--control", self._control]
        self._process = subprocess.Popen(
            [*under, sys.executable, "-m", "agent", "run", "--rules", self._policy, *own, *options],
            cwd=_PACKAGE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self._await("watching")

    @property
    def pid(self) -> int:
        """The agent's process id."""
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the agent a signal."""
        self._process.send_signal(number)

    def reload(self, rules: Mapping[str, str]) -> None:
        """Replace its rules; return once it has applied them."""
        self._write(rules)
        self.signal(signal.SIGHUP)
        self._await("reloaded")

    def attached(self) -> frozenset[str]:
        """Return the hooks whose programs it has attached."""
        return frozenset(hook["event"] for hook in self._status()["hooks"] if hook["state"] == "attached")

    def lost(self) -> int:
        """Return how many events it has lost since its start, of all types."""
        return int(self._status()["lost"])

    def wait(self) -> int:
        """Return the exit status, or the negative number of a signal. Raises ResidentError."""
        try:
            return self._process.wait(self._patience_s)
        except subprocess.TimeoutExpired as error:
            raise ResidentError(f"the agent did not end within {self._patience_s:.0f} s") from error

    def lines(self) -> list[bytes]:
        """Return the lines of matches written until now; the last one may be incomplete."""
        written = self._output.read_bytes().splitlines(keepends=True) if self._output.exists() else []
        return [line for line in written if not line.startswith(_OWN)]

    def matches(self, rule: str) -> list[dict[str, Any]]:
        """Return the written matches of a rule, in order. Raises ValueError for an incomplete line."""
        return [match for match in map(json.loads, self.lines()) if match["rule"] == rule]

    def close(self) -> None:
        """Kill the agent if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _status(self) -> dict[str, Any]:
        argv: list[str | Path] = [sys.executable, "-m", "agent", "status", "--control", self._control]
        state: dict[str, Any] = json.loads(
            subprocess.run(argv, cwd=_PACKAGE, stdout=subprocess.PIPE, check=True).stdout
        )
        return state

    def _write(self, rules: Mapping[str, str]) -> None:
        entries = [{"id": name, "expression": expression} for name, expression in rules.items()]
        self._policy.write_text(json.dumps({"rules": entries}), "utf-8")
        self._policy.chmod(0o600)  # the agent refuses rules that other users can write

    def _await(self, word: str) -> None:
        assert self._process.stderr is not None
        output = b""
        deadline = time.monotonic() + self._patience_s
        while word.encode() not in output and b"stay in force" not in output:
            ready, _, _ = select.select([self._process.stderr], [], [], max(0.0, deadline - time.monotonic()))
            more = os.read(self._process.stderr.fileno(), 1 << 16) if ready else b""
            if not more:
                self.close()
                raise ResidentError("the agent did not start", detail=output.decode("utf-8", "replace"))
            output += more
        if word.encode() not in output:
            raise ResidentError("the agent refused new rules", detail=output.decode("utf-8", "replace"))
