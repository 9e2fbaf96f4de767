"""One cell on one real machine, with a fault put into it at a chosen moment."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from harness import cell as cells
from harness.bench import Machine, MissingError, Supplies
from harness.expansion import Cell
from harness.keeper import Keeper
from harness.pace import Pace
from harness.verdict import Verdict
from harness.vmbench import VmBench, VmMachine

TEST = "truth.open"
# Long enough for what is only slow, short enough for fifty faults.
PATIENCE_S = 45.0

Inject = Callable[["Scene"], None]


class Brisk(Pace):
    """Deadlines for faults: nobody waits two minutes for a guest that is known to be silent."""

    def within(self, seconds: float) -> float:
        """At most `PATIENCE_S`."""
        return min(super().within(seconds), PATIENCE_S)


@dataclass
class Scene:
    """What a fault is put into: the cell and its files before a machine is made, the machine afterwards."""

    cell: Cell
    supplies: Supplies
    folder: Path
    bench: VmBench
    machine: VmMachine | None = None
    injected_at: float = math.nan
    undo: list[Callable[[], object]] = field(default_factory=list)

    @property
    def vm(self) -> VmMachine:
        """The machine, which is there once it boots."""
        assert self.machine
        return self.machine

    def replace_file(self, kind: str, path: Path) -> None:
        """Boots from another kernel, initramfs, root or modules."""
        files = dict(self.supplies.files)
        files[self.cell.machine] = {**files[self.cell.machine], kind: str(path)}
        self.supplies = self.supplies.model_copy(update={"files": files})

    def guest(self, command: str) -> None:
        """Starts a shell command in the guest and does not wait for it."""
        self.vm.guest.run(["sh", "-c", f"({command}) </dev/null >/dev/null 2>&1 &"], 30)

    def qemu(self) -> int:
        """The process id of the machine's QEMU, once there is one."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            domain = self.vm.machine._domain
            process = getattr(domain, "_process", None)
            if process:
                return cast("int", process.pid)
            time.sleep(0.05)
        raise AssertionError("no QEMU")


@dataclass(frozen=True)
class Fault:
    """`inject` is called at `phase`: "before" (a machine), "booting", "ready", "deployed", "load", "test".

    It must end in one of `expected`. Only what the harness is to overcome may expect PASS.
    """

    name: str
    phase: str
    inject: Inject
    expected: tuple[Verdict, ...]
    cold: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a fault ended, and how long after it."""

    fault: Fault
    verdict: Verdict
    reason: str
    seconds: float

    @property
    def right(self) -> bool:
        """Whether it ended in the class that it must."""
        return self.verdict in self.fault.expected


class Faulty:
    """A machine, or its self-test server, that is the real one but for a fault at some moments."""

    def __init__(self, real: Any, scene: Scene, fault: Fault) -> None:
        self._real = real
        self._scene = scene
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def boot(self, deadline_s: float) -> None:
        """With the fault while it boots, or once it is ready."""
        if self._fault.phase == "booting":
            threading.Thread(target=self._strike, daemon=True).start()
        self._real.boot(deadline_s)
        self._at("ready")

    def deploy(self) -> None:
        """With the fault once the agent is there."""
        self._real.deploy()
        self._at("deployed")

    def selftest(self, log: Path, deadline_s: float) -> Faulty:
        """The server, as faulty."""
        return Faulty(self._real.selftest(log, deadline_s), self._scene, self._fault)

    def load(self, cell: Cell, deadline_s: float) -> Any:
        """With the fault meanwhile."""
        self._at("load")
        return self._real.load(cell, deadline_s)

    def test(self, name: str, deadline_s: float) -> Any:
        """With the fault meanwhile."""
        self._at("test")
        return self._real.test(name, deadline_s)

    def _at(self, phase: str) -> None:
        if self._fault.phase == phase:
            self._strike()

    def _strike(self) -> None:
        self._scene.injected_at = time.monotonic()
        self._fault.inject(self._scene)


def play(fault: Fault, scene: Scene) -> Outcome:
    """Runs the scene's cell with that fault."""
    cells.TRIES = 1  # a fault is put into each machine: another try would end as the first
    scene.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        if fault.phase == "before":
            fault.inject(scene)
        verdict, reason = _run(fault, scene)
    except (OSError, ValueError, LookupError, AssertionError) as error:
        verdict, reason = Verdict.NOT_RUN, f"the harness itself failed: {error!r}"
    finally:
        for undo in reversed(scene.undo):
            undo()
    since = began if math.isnan(scene.injected_at) else scene.injected_at
    return Outcome(fault, verdict, reason, time.monotonic() - since)


def _run(fault: Fault, scene: Scene) -> tuple[Verdict, str]:
    def make(cell: Cell) -> Machine:
        if reason := scene.supplies.missing.get(cell.machine):
            raise MissingError(reason)
        scene.machine = scene.bench.machine(cell, scene.supplies, scene.folder)
        if fault.cold:
            # One process has one libvirt, so one bench makes both kinds.
            scene.machine._starter._snapshots = None
        return cast("Machine", Faulty(scene.machine, scene, fault))

    keeper = Keeper(make, Brisk(), lambda _seconds: None)
    run = cells.CellRun(scene.cell, keeper, scene.folder)
    try:
        run.open()
        result = run.test(TEST)
        report = run.close()
    finally:
        keeper.discard()
    found = [(result.verdict, result.reason)]
    found += [(report.cause.verdict, report.cause.reason)] if report.cause else []
    found += [(Verdict.SPLAT, splat.line) for splat in report.splats if not splat.allowed]
    return max(found, key=lambda one: one[0].badness)
