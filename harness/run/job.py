"""What a worker needs of the run, as plain data."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from harness.plan.plan import Plan
from harness.results.expectations import Expectations
from harness.run.supplies import Supplies


class Job(BaseModel):
    """The part of a run that its workers know."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    matrix: Path
    folder: Path
    plan: Plan
    supplies: Supplies
    known: Expectations
    keep_on_fail: bool = False
    ends_at: float | None = None  # on the monotonic clock
    limit_s: float = 0.0
    host: str = ""
