"""What a run shows while it goes on: the protocol that `harness.report.terminal` implements."""

from __future__ import annotations

from typing import Protocol

from harness.host.progress import Progress
from harness.plan.plan import Plan
from harness.results.model import TestResult
from harness.run.times import Estimate


class View(Progress, Protocol):
    """Shows remarks, steps and results as they come, from any thread."""

    def plan(self, plan: Plan, estimate: Estimate) -> None:
        """Show what will run; it is called again when the plan is narrowed."""

    def ended(self, cell: str, result: TestResult) -> None:
        """Show that a test has its verdict."""
