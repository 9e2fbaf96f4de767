"""The scene of a fault, and its moment: an observed event, never a time that passed.

If the fault must happen during an operation in the guest, the guest itself waits for the operation, writes a
line into its kernel log, and injects the fault. A fault from the host waits for that line.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from harness.errors import HarnessError
from harness.lab.lab import VmBench, VmMachine
from harness.plan.cells import Cell
from harness.results.verdict import Verdict
from harness.run.supplies import Supplies
from harness.vm.console import Stage
from harness.vm.domain import MachineSpec

TEST = "truth.open"
STRUCK = "fault: now"
MOMENT_S = 90.0  # for the moment to come

# Patterns that do not find the shell that searches by them.
AGENT = "'[a]gent selftest'"
_WAITS = {
    "load": f"until ls -l /proc/$(pgrep -nf {AGENT})/fd 2>/dev/null | grep -q bpf-prog; do :; done",
    "test": f"grep -qam1 'begin {TEST}' /dev/kmsg",
}

Strike = Callable[["Scene"], None]


@dataclass(frozen=True)
class InGuest:
    """A shell command in the guest; with `wait` the caller waits for its end."""

    command: str
    wait: bool = False


@dataclass(frozen=True)
class Fault:
    """What is done at `phase`: "before" (a machine), "booting", "ready", "deployed", "load", "test", "end".

    It must end in `expected`. Only what the harness is to overcome may expect PASS. `prepare` is done once
    the guest is ready. "between" two tests is before one of which the next must pass.
    """

    name: str
    phase: str
    strike: InGuest | Strike
    expected: Verdict
    cold: bool = False
    prepare: Strike | None = None
    root: bool = False  # whether only root can do it
    remark: str = ""  # what exactly one line for the user must say


@dataclass
class Scene:
    """The cell and its files before a machine is made, and the machine afterwards; `undo` runs at the end."""

    cell: Cell
    supplies: Supplies
    folder: Path
    bench: VmBench
    machine: VmMachine | None = None
    struck_at: float = math.nan
    problem: str = ""
    undo: list[Callable[[], object]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # lines for the user about the acceleration

    @property
    def vm(self) -> VmMachine:
        """Return the machine, which exists once it boots."""
        assert self.machine
        return self.machine

    @property
    def spec(self) -> MachineSpec:
        """Return the spec of the machine."""
        return self.vm.machine.spec

    def replace_file(self, kind: str, path: Path) -> None:
        """Boot from another kernel, initramfs, root or modules."""
        files = dict(self.supplies.files)
        files[self.cell.machine] = {**files[self.cell.machine], kind: str(path)}
        self.supplies = self.supplies.model_copy(update={"files": files})

    def qemu(self) -> int:
        """Return the process id of the machine's QEMU."""
        return cast("int", getattr(self.vm.machine._domain, "_process").pid)  # noqa: B009 - libvirt's only

    def strike(self, fault: Fault) -> None:
        """Inject the fault now."""
        self.struck_at = time.monotonic()
        if isinstance(fault.strike, InGuest):
            self._run(fault.strike.command, wait=fault.strike.wait)
        else:
            fault.strike(self)

    def in_background(self, command: str) -> None:
        """Start a shell command in the guest."""
        self._run(command)

    def arm(self, fault: Fault) -> None:
        """Inject the fault at the moment of its phase, which is in the future."""
        if fault.phase == "booting":
            moment: Callable[[], bool] = lambda: self.vm.machine.console.stage >= Stage.KERNEL  # noqa: E731
        else:
            deed = fault.strike.command if isinstance(fault.strike, InGuest) else ":"
            self._run(f"{_WAITS[fault.phase]}; echo '{STRUCK}' >/dev/kmsg; {deed}")
            moment = lambda: STRUCK.encode() in self._console()  # noqa: E731
        threading.Thread(target=self._follow, args=(fault, moment), daemon=True).start()

    def _follow(self, fault: Fault, moment: Callable[[], bool]) -> None:
        deadline = time.monotonic() + MOMENT_S
        self.vm.machine._wait(moment, deadline)
        if not moment():
            self.problem = f"there was no moment of {fault.phase} to strike at"
            return
        self.struck_at = time.monotonic()
        if not isinstance(fault.strike, InGuest):
            try:
                fault.strike(self)
            except (OSError, HarnessError, AssertionError) as error:
                self.problem = f"could not strike: {error!r}"

    def _console(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self.spec.console.read_bytes()
        return b""

    def _run(self, command: str, *, wait: bool = False) -> None:
        """Run a shell command in the guest, and wait for it only if the fault says so."""
        end = "" if wait else " &"
        self.vm.guest.run(["sh", "-c", f"({command}) </dev/null >/dev/null 2>&1{end}"], 60)
