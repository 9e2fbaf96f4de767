"""`harness` with fake machines that take SIMULATED_S seconds each, and a log with times and hosts."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from harness.cluster import child, facts
from harness.lab import lab
from harness.plan.cells import Cell
from harness.run.fake import FakeBench, FakeMachine
from harness.run.machines import Machine
from harness.run.supplies import Supplies

SECONDS = "SIMULATED_S"


class SlowMachine(FakeMachine):
    """A guest whose boot takes the time of a whole machine."""

    def boot(self, deadline_s: float) -> None:
        super().boot(deadline_s)
        time.sleep(float(os.environ[SECONDS]))


class SlowBench(FakeBench):
    """A line of its log is `TIME PID WORKER HOST EVENT`."""

    def machine(self, cell: Cell, supplies: Supplies, workdir: Path) -> Machine:
        return SlowMachine(self, cell)

    def note(self, line: str) -> None:
        where = os.environ.get(facts.HOST, "-")
        with Path(os.environ["FAKE_LOG"]).open("a", encoding="utf-8") as file:
            file.write(f"{time.time():.3f} {os.getpid()} {os.getppid()} {where} {line}\n")


def bench(*_words: Any, **_more: Any) -> SlowBench:
    return SlowBench()


def main() -> int:
    from harness import cli

    lab.VmBench = bench  # type: ignore[assignment, misc]
    child.MODULE = "tests.campaigns.cluster.player"
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
