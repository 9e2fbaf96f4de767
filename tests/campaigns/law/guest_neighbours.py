"""Runs in the guest: what another user, or the operator, does while programs run."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

NEIGHBOUR = 4242  # user id
POLL_S = 0.004


class Asked(Protocol):
    """An agent that answers requests."""

    def ask(self, word: str) -> dict[str, Any]:
        """Return its answer to `status` or `reload`."""


class Neighbours:
    """Scripts of another user that run meanwhile, and are killed with all that they started.

    With `reloads` the rules are loaded again all the time.
    """

    def __init__(self, generator: str, scripts: list[str], ready: str, reloaded: Sequence[Asked]) -> None:
        self.generator, self.scripts, self.ready, self.reloaded = generator, scripts, ready, reloaded
        self.running: list[subprocess.Popen[bytes]] = []
        self.over = threading.Event()
        self.storm = threading.Thread(target=self.reload)

    def __enter__(self) -> None:
        self.storm.start()
        for script in self.scripts:
            process = subprocess.Popen(
                [self.generator], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
            )
            self.running.append(process)
            assert process.stdin is not None
            process.stdin.write(script.encode() + b"\ngo\n")
            process.stdin.flush()
            while not os.path.isdir(self.ready):
                if process.poll() is not None:
                    raise OSError("a neighbour ended before it was ready")
                time.sleep(POLL_S)
            os.rmdir(self.ready)

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.storm.join()
        for process in self.running:
            process.kill()
            process.communicate()
        while self.running and _kill_all_of(NEIGHBOUR):
            time.sleep(POLL_S)
        for group in glob.glob("/sys/fs/cgroup/law/*/*/"):
            os.rmdir(group)

    def reload(self) -> None:
        """Ask each agent in turn to reload."""
        while self.reloaded and not self.over.is_set():
            for agent in self.reloaded:
                agent.ask("reload")


def _kill_all_of(uid: int) -> bool:
    """Kill all processes of that user; return whether there was one."""
    found = False
    for name in os.listdir("/proc"):
        if name.isdigit() and _owner(name) == uid:
            found = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(name), signal.SIGKILL)
    return found


def _owner(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            found = re.search(rb"^Uid:\t(\d+)", file.read(), re.MULTILINE)
    except OSError:
        return -1
    return int(found[1]) if found else -1
