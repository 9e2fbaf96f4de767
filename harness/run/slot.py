"""The one machine of a worker: booted for the first of the cells that share it, destroyed for another's."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from harness.host.deadlines import ORDINARY, Pace
from harness.host.progress import Phase, Progress, Step, silent
from harness.plan.cells import Cell
from harness.results.model import Phases
from harness.run.machines import Machine

BOOT_DEADLINE_S = 120.0
LEAVE_S = 10.0


class Keeper:
    """Holds one machine at a time; `pause` waits some seconds between two tries, `progress` gets phases."""

    def __init__(
        self,
        make: Callable[[Cell], Machine],
        pace: Pace | None = None,
        pause: Callable[[float], object] = time.sleep,
        progress: Progress = silent,
    ) -> None:
        self._make = make
        self._key = ""
        self._deployed = False
        self.pace = pace or Pace()
        self.pause = pause
        self.progress = progress
        self.machine: Machine | None = None
        self.phases = Phases()  # of the last `enter`, also where that failed

    def enter(self, cell: Cell) -> None:
        """See that the machine of `cell` runs and has the agent; raises HarnessError."""
        self.phases = Phases()
        if self.machine is None or self._key != cell.machine:
            self.discard()
            self.progress(Step(Phase.BOOT, machine=cell.machine))
            self.pace.slowness = ORDINARY
            self.machine, self._key = self._make(cell), cell.machine
            with self._timed("boot_s"):
                self.machine.boot(self.pace.within(BOOT_DEADLINE_S))
            self.pace.slowness = self.machine.slowness()
            self._deployed = False
        if not (self._deployed or cell.suite):
            self.progress(Step(Phase.DEPLOY, machine=cell.machine))
            with self._timed("deploy_s"):
                self.machine.deploy()
            self._deployed = True
        self.phases = self.phases.model_copy(update={"start": self.machine.start})

    def leave(self, cell: str) -> str:
        """Let the machine run on for a person; returns the line that gets in, "" where it does not answer."""
        machine = self.machine
        if machine is None or not machine.answers(LEAVE_S):
            return ""
        self.machine, self._key = None, ""
        return machine.keep(cell)

    def discard(self) -> None:
        """Destroy the machine, if there is one."""
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
