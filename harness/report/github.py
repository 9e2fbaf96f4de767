"""Prints workflow commands that GitHub shows beside a run: one `::error::` for each unexpected finding.

GitHub shows ten for each step: the nine worst are printed, and a tenth line with the number of the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO

from harness.report.shared import attention
from harness.report.shared.attention import Finding
from harness.results.model import Results
from harness.text import visible

SHOWN = 9
TEXT_LIMIT = 1000  # characters
TITLE_LIMIT = 300  # characters
CELLS_SHOWN = 6


def in_workflow(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether this process runs in a GitHub workflow."""
    return environment.get("GITHUB_ACTIONS") == "true"


def show(results: Results, out: IO[str], *, forced: bool = False) -> None:
    """Write the annotations to `out` in a GitHub workflow, or if `forced`."""
    if forced or in_workflow():
        out.writelines(f"{line}\n" for line in lines(results))


def lines(results: Results, shown: int = SHOWN) -> list[str]:
    """Return at most `shown` + 1 lines, each a workflow command; none if every verdict is expected."""
    found = attention.findings(results)
    errors = [
        f"::error title={_property(_title(finding))}::{_data(finding.reason, TEXT_LIMIT)}"
        for finding in found[:shown]
    ]
    more = len(found) - shown
    return [*errors, f"::error::and {more} more, in summary.md and report.html"] if more > 0 else errors


def _title(finding: Finding) -> str:
    cells = finding.cells
    where = ", ".join(cell.id for cell in cells[:CELLS_SHOWN])
    more = f" and {len(cells) - CELLS_SHOWN} more" if len(cells) > CELLS_SHOWN else ""
    return f"{finding.verdict} {attention.name_of(finding)} in {where}{more}"


def _data(text: str, limit: int) -> str:
    """Escape text for the runner, so that it cannot end the line and begin another command."""
    shown = visible(text[:limit])
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text, TITLE_LIMIT).replace(":", "%3A").replace(",", "%2C")
