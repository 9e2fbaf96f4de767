"""Divides the run of a real cell into phases, and injects a fault at a drawn moment of one."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from harness.errors import HarnessError
from harness.guest.base import Guest
from harness.guest.ssh import connect
from harness.lab.lab import VmBench, VmMachine
from harness.plan.cells import Cell
from harness.run.machines import Machine
from harness.run.supplies import Supplies
from tests.campaigns.faults import lies
from tests.campaigns.faults.draw import Draw
from tests.campaigns.faults.kinds import Strike
from tests.campaigns.faults.scene import InGuest, Scene

REACH_S = 60.0


@dataclass
class Moments:
    """Knows the cell's phase, and injects the fault once. The file `note` records what happened."""

    draw: Draw
    delay_s: float
    note: Path
    strike: Callable[[Scene], str]
    phase: str = "before"
    scene: Scene | None = None
    _lasted: dict[str, float] = field(default_factory=dict)
    _struck: dict[str, Any] = field(default_factory=dict)
    _since: float = field(default_factory=time.monotonic)
    _armed: bool = False
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def enter(self, phase: str) -> None:
        """Enter a phase; in the drawn phase, inject the fault after the delay."""
        with self._lock:
            now = time.monotonic()
            self._lasted[self.phase] = self._lasted.get(self.phase, 0.0) + now - self._since
            self.phase, self._since = phase, now
            arm = not self._armed and phase == self.draw.phase
            self._armed |= arm
            self._write()
        if arm and phase == "between":
            self._strike()
        elif arm:
            threading.Thread(target=self._after_delay, daemon=True).start()

    def _after_delay(self) -> None:
        time.sleep(self.delay_s)
        self._strike()

    def _strike(self) -> None:
        assert self.scene
        before = self.phase
        self._struck = {"before": before, "problem": "it does not end"}
        self._write()
        try:
            problem = self.strike(self.scene)
        except (OSError, HarnessError, AssertionError, AttributeError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        self._struck = {"before": before, "after": self.phase, "problem": problem}
        self._write()

    def _write(self) -> None:
        with self._lock, contextlib.suppress(OSError):
            self.note.write_text(json.dumps({"struck": self._struck, "lasted": self._lasted}))


def deed(strike: Strike) -> Callable[[Scene], str]:
    """Return a strike of the catalogue as a function that returns why it did nothing, or ""."""

    def do(scene: Scene) -> str:
        if isinstance(strike, InGuest):
            return _in_guest(scene, strike)
        strike(scene)
        return ""

    return do


def _in_guest(scene: Scene, strike: InGuest) -> str:
    """Run a command over its own connection if the harness has none yet."""
    words = f"({strike.command}) </dev/null >/dev/null 2>&1"
    guest, own = _reached(scene)
    try:
        done = guest.run(["sh", "-c", words if strike.wait else f"{words} &"], REACH_S)
    finally:
        if own:
            guest.close()
    return f"the guest's shell ended with {done.status}" if strike.wait and done.status else ""


def _reached(scene: Scene) -> tuple[Guest, bool]:
    machine = scene.vm.machine
    deadline = time.monotonic() + REACH_S
    while machine.guest is None:
        try:
            return connect(machine.endpoint, 5.0), True
        except HarnessError:
            if time.monotonic() > deadline or machine.death:
                raise
            time.sleep(0.05)
    return machine.guest, False


class WatchedBench:
    """The real bench with prepared supplies; it reports the phases of its machines."""

    def __init__(self, real: VmBench, supplies: Supplies, moments: Moments) -> None:
        self._real, self._supplies, self._moments = real, supplies, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def prepare(self, *_: object) -> Supplies:
        """Return the supplies that the campaign prepared once for all runs."""
        return self._supplies

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        """Return a real machine that reports its phases."""
        made = self._real.machine(cell, supplies, workdir)
        self._moments.scene = Scene(cell, supplies, workdir, self._real, made)
        return cast("Machine", WatchedMachine(made, self._moments))


class WatchedMachine:
    """A real machine that reports the phases of its life."""

    def __init__(self, real: VmMachine, moments: Moments) -> None:
        self._real, self._moments = real, moments

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def boot(self, deadline_s: float) -> None:
        """Enter `boot`."""
        self._moments.enter("boot")
        self._real.boot(deadline_s)

    def deploy(self) -> None:
        """Enter `deploy`, in which the agent may be changed."""
        self._moments.enter("deploy")
        self._real.deploy()
        kind = self._moments.draw.fault
        if kind and kind.lie:
            made_liar(self._real.guest, kind.lie, self._moments.draw.lies)

    def selftest(self, log: Path, deadline_s: float) -> Any:
        """Enter `load`."""
        self._moments.enter("load")
        return WatchedSelftest(self._real.selftest(log, deadline_s), self._moments)

    def leftovers(self, deadline_s: float) -> Any:
        """Enter `look`: a fault from here on may come too late to be noticed."""
        self._moments.enter("look")
        return self._real.leftovers(deadline_s)

    def collect(self, folder: Path) -> None:
        """Enter `after`."""
        self._moments.enter("after")
        self._real.collect(folder)


class WatchedSelftest:
    """A real self-test server that reports the phases of its life."""

    def __init__(self, real: Any, moments: Moments) -> None:
        self._real, self._moments = real, moments
        self._tests = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def load(self, cell: Cell, deadline_s: float) -> Any:
        """Stay in `load`."""
        return self._real.load(cell, deadline_s)

    def test(self, name: str, deadline_s: float) -> Any:
        """Enter `between` before each test except the first, then `test`."""
        if self._tests:
            self._moments.enter("between")
        self._tests += 1
        self._moments.enter("test")
        return self._real.test(name, deadline_s)

    def close(self) -> Any:
        """Enter `close`."""
        self._moments.enter("close")
        return self._real.close()


def made_liar(guest: Guest, lie: str, times: int) -> None:
    """Change the agent in the guest."""
    addition = lies.source(lie, times)
    guest.put_bytes(addition.encode(), "/tmp/lie.py")
    cached = "/opt/fim/agent/selftest/__pycache__/protocol.*"
    done = guest.run(["sh", "-c", f"cat /tmp/lie.py >>{lies.FILE} && rm -f {cached} /tmp/lie.py"], 60)
    assert done.status == 0
