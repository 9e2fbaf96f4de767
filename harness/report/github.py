"""Workflow commands that GitHub shows beside a run: one `::error::` for each finding that is not as expected.

GitHub shows ten of a step. So nine are told, the worst first, and a tenth says how many more there are.
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


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs in a GitHub workflow."""
    return environment.get("GITHUB_ACTIONS") == "true"


def show(results: Results, out: IO[str], *, asked: bool = False) -> None:
    """Write the annotations to `out` where GitHub reads them, or when `asked` to."""
    if asked or wanted():
        out.writelines(f"{line}\n" for line in lines(results))


def lines(results: Results, shown: int = SHOWN) -> list[str]:
    """At most `shown` + 1 lines, each one workflow command; none when everything is as expected."""
    found = attention.findings(results)
    said = [
        f"::error title={_property(_title(finding))}::{_data(finding.reason, TEXT_LIMIT)}"
        for finding in found[:shown]
    ]
    more = len(found) - shown
    return [*said, f"::error::and {more} more, in summary.md and report.html"] if more > 0 else said


def _title(finding: Finding) -> str:
    cells = finding.cells
    where = ", ".join(cell.id for cell in cells[:CELLS_SHOWN])
    more = f" and {len(cells) - CELLS_SHOWN} more" if len(cells) > CELLS_SHOWN else ""
    return f"{finding.verdict} {attention.what(finding)} in {where}{more}"


def _data(text: str, limit: int) -> str:
    """Escaped as the runner unescapes it; nothing in `text` can end the line and begin another command."""
    shown = visible(text[:limit])
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text, TITLE_LIMIT).replace(":", "%3A").replace(",", "%2C")
