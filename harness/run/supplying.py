"""Asks a bench for the supplies of a run, after how fast guests run on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.host.progress import Phase, Progress, Step
from harness.plan.plan import Plan
from harness.run.machines import Bench
from harness.run.supplies import Deliveries


def delivered(
    bench: Bench, plan: Plan, base: Path, progress: Progress, order: Sequence[str], *, explain: bool
) -> Deliveries:
    """Return the supplies as soon as one machine can boot, those of the first in `order` if possible.

    `base` is the folder of the suites' files. With `explain` the user reads why guests are accelerated or
    emulated. Raises HarnessError.
    """
    kinds = _accelerators(bench, plan, progress, explain)
    found = bench.deliver(plan, ", ".join(sorted({*kinds.values()})), progress, order)
    found.common = found.common.model_copy(update={"base": str(base), "accelerators": kinds})
    return found


def _accelerators(bench: Bench, plan: Plan, progress: Progress, explain: bool) -> dict[str, str]:
    """Return the accelerator of each architecture of the plan."""
    progress(Step(Phase.CHECK, "how fast guests run on this host"))
    found = {arch: bench.accelerator(arch) for arch in sorted({cell.arch for cell in plan.cells})}
    if explain:
        for why in dict.fromkeys(why for _kind, why in found.values()):
            progress(f"acceleration: {why}")
    progress(Step(Phase.WAIT))  # the check is over
    return {arch: kind for arch, (kind, _why) in found.items()}
