"""Plays one cell on one real machine, with a fault injected at a chosen moment."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, cast

from harness.errors import MissingError
from harness.host.deadlines import Pace
from harness.plan.cells import Cell
from harness.results.verdict import Verdict
from harness.run import cell as cells
from harness.run.cell import CellRun
from harness.run.machines import Machine
from harness.run.slot import Slot
from tests.campaigns.faults.scene import TEST, Fault, Scene

# Long enough for what is only slow, short enough for fifty faults.
PATIENCE_S = 45.0


class Brisk(Pace):
    """Deadlines for faults: no run waits two minutes for a guest that is known to be silent."""

    def within(self, seconds: float) -> float:
        """Return at most `PATIENCE_S`."""
        return min(super().within(seconds), PATIENCE_S)


@dataclass(frozen=True)
class Outcome:
    """How a fault ended, and after how many seconds; `problem` is why it did not happen."""

    fault: Fault
    verdict: Verdict
    reason: str
    seconds: float
    problem: str = ""

    @property
    def right(self) -> bool:
        """Return whether the fault happened and ended in its class."""
        return not self.problem and self.verdict is self.fault.expected


class Faulty:
    """A real machine, or its real self-test server, with a fault at some moment."""

    def __init__(self, real: Any, scene: Scene, fault: Fault) -> None:
        self._real = real
        self._scene = scene
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def boot(self, deadline_s: float) -> None:
        """Boot with the fault during the boot, or once the guest is ready."""
        self._arm("booting")
        self._real.boot(deadline_s)
        if self._fault.prepare:
            self._fault.prepare(self._scene)
        self._strike("ready")

    def selftest(self, log: Path, deadline_s: float) -> Faulty:
        """Start the server, with the fault between deployment and start."""
        self._strike("deployed")
        return Faulty(self._real.selftest(log, deadline_s), self._scene, self._fault)

    def load(self, cell: Cell, deadline_s: float) -> Any:
        """Load, with the fault meanwhile."""
        self._arm("load")
        return self._real.load(cell, deadline_s)

    def test(self, name: str, deadline_s: float) -> Any:
        """Run a test, with the fault meanwhile or afterwards."""
        self._arm("test")
        ran = self._real.test(name, deadline_s)
        self._strike("end")
        return ran

    def _strike(self, phase: str) -> None:
        if self._fault.phase == phase:
            self._scene.strike(self._fault)

    def _arm(self, phase: str) -> None:
        if self._fault.phase == phase:
            self._scene.arm(self._fault)


def play(fault: Fault, scene: Scene) -> Outcome:
    """Play the scene's cell with that fault."""
    cells.MAX_MACHINES = 1  # a fault is put into each machine: another try would end as the first
    scene.folder.mkdir(parents=True, exist_ok=True)
    began = ended = time.monotonic()
    try:
        if fault.phase == "before":
            scene.strike(fault)
        verdict, reason, ended = _run(fault, scene)
    except (OSError, ValueError, LookupError, AssertionError, SubprocessError) as error:
        verdict, reason = Verdict.NOT_RUN, f"the harness itself failed: {error!r}"
    finally:
        for undo in reversed(scene.undo):
            undo()
    struck = not math.isnan(scene.struck_at)
    problem = scene.problem or ("" if struck else "it never struck")
    since = scene.struck_at if struck and verdict is not Verdict.PASS else began
    # A panic is seen in the same look at the console as that it was struck.
    return Outcome(fault, verdict, reason, max(0.0, ended - since), problem)


def _run(fault: Fault, scene: Scene) -> tuple[Verdict, str, float]:
    """Return the worst verdict of the cell, its reason, and its time."""
    slot = Slot(lambda cell: _machine(fault, scene, cell), Brisk(), lambda _seconds: None)
    run = CellRun(scene.cell, slot, scene.folder)
    try:
        run.open()
        result = run.test(TEST)
        if fault.phase == "between":
            scene.strike(fault)
            result = run.test(TEST)
        known_at = time.monotonic()
        if fault.phase == "between" and (after := run.test(TEST)).verdict is not Verdict.PASS:
            scene.problem = f"the test after it ended in {after.verdict}: {after.reason}"
        report = run.close()
    finally:
        slot.discard()
    _check_remarks(fault, [*scene.remarks, *report.notes], scene)
    found = [(result.verdict, result.reason)]
    found += [(report.cause.verdict, report.cause.reason)] if report.cause else []
    found += [(Verdict.SPLAT, splat.line) for splat in report.splats if not splat.allowed]
    verdict, reason = max(found, key=lambda one: one[0].badness)
    return verdict, reason, known_at if verdict is result.verdict else time.monotonic()


def _check_remarks(fault: Fault, remarks: Sequence[str], scene: Scene) -> None:
    """A fault that names a remark must end under TCG, with that remark in one line."""
    if not fault.remark:
        return
    if scene.vm.accelerator != "tcg" or [fault.remark in line for line in remarks] != [True]:
        scene.problem = f"not one remark with {fault.remark!r}: {remarks}, under {scene.vm.accelerator}"


def _machine(fault: Fault, scene: Scene, cell: Cell) -> Machine:
    if reason := scene.supplies.missing.get(cell.machine):
        raise MissingError(reason)
    scene.machine = scene.bench.machine(cell, scene.supplies, scene.folder)
    if fault.cold:
        # One process has one libvirt, so one bench makes both kinds.
        scene.machine._starter._starter._snapshots = None
    return cast("Machine", Faulty(scene.machine, scene, fault))
