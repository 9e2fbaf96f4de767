"""Decides how a random run ended, and whether that is right."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.results import model, results_file
from harness.results.verdict import Verdict, worst
from tests.campaigns.faults.draw import Draw
from tests.campaigns.faults.kinds import right

CONSEQUENCE = "not run: the machine was given up after"  # of a test that comes after the one that lost it
LATE = ("look", "after")  # phases in which a fault may come after everything was looked at


@dataclass(frozen=True)
class Ended:
    """One random run as a line of the campaign's log.

    `outcome` is "right", "wrong", "missed" (the fault did not take place) or "late" (it came after the last
    look, and the run passed). `verdict` is the worst of the run, or "exit N" where the exit code is another.
    `lost` counts the machines that the run lost and replaced.
    """

    number: int
    draw: Draw
    verdict: str
    exit_code: int
    outcome: str
    reason: str
    seconds: float
    load: float
    struck: dict[str, Any]
    kernel: str = ""
    false_green: bool = False
    lost: int = 0

    def line(self) -> str:
        """Return the run as JSON."""
        return json.dumps({**asdict(self), "draw": self.draw._asdict()}) + "\n"


def parsed(line: str) -> Ended:
    """Return a line of the log as data."""
    data = json.loads(line)
    return Ended(**{**data, "draw": Draw(**data["draw"])})


@dataclass(frozen=True)
class Seen:
    """The output of one run. A negative exit code is a signal; `lost` and `booted` count machines."""

    exit_code: int
    verdict: str
    reason: str
    lost: int = 0
    booted: int = 0


def seen(folder: Path, exit_code: int) -> Seen:
    """Read a run's output folder; unreadable results are an end of their own."""
    path = folder / "out" / "results.json"
    if not path.exists():
        said = (folder / "output.txt").read_text(errors="replace").strip().splitlines()
        return Seen(exit_code, f"exit {exit_code}", said[-1] if said else "")
    results = results_file.load(path)
    ends = [(cell.verdict, cell.reason) for cell in results.cells]
    ends += [(test.verdict, test.reason) for cell in results.cells for test in cell.tests]
    agrees = worst(one for one, _ in ends).exit_code == exit_code
    causes = [end for end in ends if not end[1].startswith(CONSEQUENCE)] or ends
    verdict, reason = max(causes, key=lambda end: end[0].badness)
    word = str(verdict) if agrees else f"exit {exit_code}"
    booted = sum(cell.phases.start == "cold" for cell in results.cells)
    return Seen(exit_code, word, reason, sum(_lost(cell) for cell in results.cells), booted)


def _lost(cell: model.CellResult) -> int:
    """Return how many machines the cell lost and replaced; its last attempt is the one that counts."""
    return max(0, len(cell.attempts) - 1) + sum(
        attempt.verdict is Verdict.INFRA for test in cell.tests for attempt in test.attempts
    )


def outcome_of(draw: Draw, found: Seen, struck: dict[str, Any], problem: str) -> tuple[str, bool]:
    """Return (outcome, false green); `problem` is another error, such as a QEMU that was left."""
    kind = draw.fault
    if kind is None or kind.group == "overcome":
        # A fault that did not take place is a healthy run as well.
        return ("right" if found.exit_code == 0 and not problem else "wrong"), False
    phases = {str(struck.get("before", "")), str(struck.get("after", ""))} - {""}
    if kind.lie:
        phases = {"deploy"}
    if not phases:
        return ("missed" if found.exit_code == 0 else "wrong"), False
    if found.exit_code == 0:
        if draw.tries > 1 and kind.group in ("host fails", "guest hangs") and found.lost:
            return "right", False  # another machine did it, and the results say so
        if phases == {"boot"} and found.booted and not draw.cold:
            return "right", False  # it was not restored and had to be booted, and the results say so
        if struck.get("problem"):
            return "missed", False
        if phases & set(LATE):
            return "late", False
        return "wrong", True
    cold = draw.cold or found.booted > 0
    allowed = {str(verdict) for phase in phases for verdict in right(kind, phase, cold=cold)}
    if _may_lack_results(kind.group):
        allowed |= {f"exit {verdict.exit_code}" for verdict in right(kind, "test", cold=cold)}
    allowed |= {"exit -9"} if kind.name in ("SIGKILL", "cancelled by GitHub") else set()
    return ("right" if found.verdict in allowed and not problem else "wrong"), False


def _may_lack_results(group: str) -> bool:
    """Return whether a run may end without results, or with an exit code that they do not explain."""
    return group in ("host fails", "interrupted")
