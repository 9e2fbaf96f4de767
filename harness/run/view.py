"""The protocol of a run's display; `harness.report.lines` and `harness.report.live` implement it."""

from __future__ import annotations

from typing import Protocol

from harness.host.progress import Progress
from harness.plan.plan import Plan
from harness.results.model import TestResult
from harness.run.times import Estimate


class View(Progress, Protocol):
    """Displays remarks, steps and results as they arrive, from any thread."""

    def plan(self, plan: Plan, estimate: Estimate) -> None:
        """Display what will run."""

    def repeated(self, cell: str, result: TestResult) -> None:
        """Display the failure of a test that runs again; `ended` follows, unless the run ends."""

    def ended(self, cell: str, result: TestResult) -> None:
        """Display the result of a test."""
