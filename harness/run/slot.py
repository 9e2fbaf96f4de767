"""Holds a worker's current machine; boots another when a cell needs a different one."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.host import deadlines
from harness.host.deadlines import ORDINARY, Pace
from harness.host.progress import Phase, Progress, Step, silent
from harness.plan.cells import Cell
from harness.results.model import Phases
from harness.run.machines import Machine, Selftest

COMMAND_LOG = "command.log"  # in the folder of a cell: output of a suite
AGENT_LOG = "agent.log"  # in the folder of a cell: stderr of the self-test server


class Slot:
    """The place of one machine.

    `pause` waits between two tries, and `wait` until the machine of a cell may boot. `progress` receives the
    phases.
    """

    def __init__(
        self,
        make: Callable[[Cell], Machine],
        pace: Pace | None = None,
        pause: Callable[[float], object] = time.sleep,
        progress: Progress = silent,
        wait: Callable[[Cell], object] = lambda _cell: None,
    ) -> None:
        self._make = make
        self._wait = wait
        self._key = ""  # the name of the machine that is held
        self._deployed = False
        self._heard: int | None = (
            None  # bytes of the console before the next look; None before the first load
        )
        self.pace = pace or Pace()
        self.pause = pause
        self.progress = progress
        self.machine: Machine | None = None
        self.phases = Phases()  # of the last `enter`, even if it failed

    def enter(self, cell: Cell) -> None:
        """Boot the machine of `cell` unless it is the current one; deploy the agent. Raises HarnessError."""
        self.phases = Phases()
        if self.machine is None or self._key != cell.machine:
            self.discard()
            self._wait(cell)
            self.progress(Step(Phase.BOOT, machine=cell.machine))
            self.pace.slowness = ORDINARY
            self.machine, self._key, self._heard = self._make(cell), cell.machine, None
            with self._timed("boot_s"):
                self.machine.boot(self.pace.within(deadlines.BOOT_S))
            self.pace.slowness = self.machine.slowness()
            self._deployed = False
        self.phases = self.phases.model_copy(update={"start": self.machine.start})
        if not (self._deployed or cell.suite):
            self.progress(Step(Phase.DEPLOY, machine=cell.machine))
            with self._timed("deploy_s"):
                self.deploy(self.machine)
            self._deployed = True

    def deploy(self, machine: Machine) -> None:
        """Copy the agent into the guest. Raises HarnessError."""
        machine.deploy()

    def serve(self, cell: Cell, folder: Path, deadline_s: float) -> Selftest:
        """Return the server for the tests of `cell`, with its log in `folder`. Raises HarnessError."""
        assert self.machine
        if cell.suite:
            return self.machine.command(cell, _new_log(folder / COMMAND_LOG))
        return self.machine.selftest(_new_log(folder / AGENT_LOG), deadline_s)

    def leftovers(self, deadline_s: float) -> list[str]:
        """List what a closed cell left in the guest. Raises HarnessError."""
        assert self.machine
        return self.machine.leftovers(deadline_s)

    def listen(self) -> None:
        """Begin to read the console, unless an earlier cell of the machine did. Raises HarnessError.

        What the kernel prints after the last look of that cell would be in no cell otherwise.
        """
        assert self.machine
        if self._heard is None:
            self._heard = len(self.machine.console())

    def news(self, deadline_s: float = 0.0) -> list[bytes]:
        """Return the lines of the console since the last look, none before `listen`. Raises HarnessError.

        `deadline_s` is that of `Machine.console`.
        """
        if self.machine is None or self._heard is None:
            return []
        new = self.machine.console(deadline_s)[self._heard :]
        self._heard += new.rfind(b"\n") + 1
        return new.split(b"\n")

    def keep(self, cell: str) -> str:
        """Leave the machine running for the user; return the command that enters it, "" if it is dead."""
        machine = self.machine
        if machine is None or not machine.answers(deadlines.KEEP_S):
            return ""
        self.machine, self._key = None, ""
        return machine.keep(cell)

    def discard(self) -> None:
        """Destroy the machine, if the slot has one."""
        machine, self.machine, self._key = self.machine, None, ""
        if machine:
            machine.destroy()

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases = self.phases.model_copy(update={phase: time.monotonic() - began})


def _new_log(path: Path) -> Path:
    """Return `path` after an earlier log of the cell under this name got the next number."""
    if path.exists():
        numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(1))
        path.replace(next(kept for kept in numbered if not kept.exists()))
    return path
