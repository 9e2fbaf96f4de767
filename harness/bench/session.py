"""Measures one bench in the machines of a lab, and joins its trials to a `Bench`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from harness.bench import model, rounds
from harness.bench.model import Bench, Clock
from harness.bench.monitors import Monitor
from harness.bench.trial import Trials
from harness.bench.workloads import Workload
from harness.errors import ConfigError, InfrastructureError
from harness.host.progress import Progress
from harness.images import MONITORS as ROOT
from harness.lab import provenance, supplies
from harness.lab.lab import VmBench
from harness.plan.plan import Plan
from harness.run.supplies import Supplies

INSTRUCTIONS, TIME = "instructions", "time"
MEMORY_MIB = 1024


class Session:
    """One bench on the only machine of `plan`; `clock` is "instructions", "time" or "auto".

    Raises ConfigError for a clock that the accelerator lacks.
    """

    def __init__(self, lab: VmBench, plan: Plan, clock: str, progress: Progress) -> None:
        self._lab = lab
        self._plan = plan
        self._cell = plan.cells[0]
        self._progress = progress
        self._kind, self._accelerator = lab.accelerator(self._cell.arch)
        self._clock = chosen_clock(clock, self._kind)
        self._supplies: Supplies | None = None

    def prepare(self) -> None:
        """Fetch the kernel and make its images. Raises HarnessError."""
        self._lab.icount = self._clock == INSTRUCTIONS
        self._lab.extra, self._lab.memory_mib = ROOT, MEMORY_MIB
        self._lab.reap()
        found = self._lab.prepare(self._plan, self._accelerator, self._progress)
        if reason := next(iter(found.missing.values()), ""):
            raise InfrastructureError(reason)
        self._supplies = found.model_copy(update={"accelerators": {self._cell.arch: self._kind}})

    def begin(self, monitors: Sequence[Monitor], workloads: Sequence[Workload], argv: Sequence[str]) -> Bench:
        """Return a bench without trials."""
        assert self._supplies
        commit, _ = provenance.commit_of(supplies.ROOT)
        return Bench(
            kernel=self._cell.kernel.name,
            release=self._supplies.kernels[self._cell.machine].release,
            arch=self._cell.arch,
            accelerator=self._kind,
            clock=self._clock,
            commit=commit,
            argv=tuple(argv),
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            monitors={one.name: one.about for one in monitors},
            workloads={
                one.name: model.Workload(about=one.about, operations=one.operations, generated=one.generated)
                for one in workloads
            },
        )

    def play(
        self, begun: Bench, monitors: Sequence[Monitor], workloads: Sequence[Workload], count: int
    ) -> Iterator[Bench]:
        """Yield the bench after each trial."""
        assert self._supplies
        began = time.monotonic()
        measure = Trials(self._lab, self._cell, self._supplies, self._kind).measure
        for trial in rounds.play(measure, monitors, workloads, count, self._progress):
            seconds = round(time.monotonic() - began, 1)
            begun = begun.model_copy(update={"trials": (*begun.trials, trial), "seconds": seconds})
            yield begun


def chosen_clock(wanted: str, kind: str) -> Clock:
    """Return the clock for an accelerator. Raises ConfigError."""
    if wanted == INSTRUCTIONS and kind != "tcg":
        raise ConfigError(
            "--clock instructions: KVM has no clock that counts instructions",
            hint="add --accelerator tcg, or use --clock time",
        )
    return "instructions" if kind == "tcg" and wanted != TIME else "time"
