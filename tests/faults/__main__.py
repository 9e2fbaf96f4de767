"""`python -m tests.faults [NAME...]`: put every fault into a real machine, print how each ended.

Exits with 1 if one ended green that must not, or in the wrong class.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.bench import Supplies
from harness.expansion import Cell
from harness.plan import Selectors
from harness.run import Options, Run
from harness.vmbench import VmBench
from tests.faults.catalogue import FAULTS
from tests.faults.report import cut_results
from tests.faults.world import TEST, Outcome, Scene, play

KERNEL = "6.1"
MATRIX = Path(__file__).parents[2] / "matrix.yaml"


def main(names: Sequence[str]) -> int:
    """Run the faults whose names contain one of `names`, all without; returns the exit code."""
    chosen = [fault for fault in FAULTS if not names or any(name in fault.name for name in names)]
    wrong = 0
    bench = VmBench(lock=MATRIX.with_name("matrix.lock"))
    with contextlib.closing(bench), tempfile.TemporaryDirectory() as folder:
        cell, supplies = _prepared(bench)
        for number, fault in enumerate(chosen):
            scene = Scene(cell, supplies, Path(folder, str(number)), bench)
            wrong += not _show(play(fault, scene))
    return 1 if wrong + (0 if names else not cut_results()) else 0


def _show(outcome: Outcome) -> bool:
    mark = "ok" if outcome.right else f"WRONG, not {' or '.join(outcome.fault.expected)}"
    line = f"{outcome.fault.name:<36} {outcome.verdict:<10} {outcome.seconds:5.1f} s  {mark}"
    sys.stdout.write(f"{line}\n    {outcome.reason[:150]}\n")
    sys.stdout.flush()
    return outcome.right


def _prepared(bench: VmBench) -> tuple[Cell, Supplies]:
    options = Options(matrix=MATRIX, selectors=Selectors(kernel=(KERNEL,), test=(TEST,)))
    plan = Run(options, bench).plan
    cell = plan.cells[0]
    return cell, bench.prepare(plan, bench.accelerator(cell.arch)[0], print)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
