"""The table fault x verdict x seconds in `docs/faults.md`, which `make faults` writes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import ROOT

PAGE = ROOT / "docs" / "faults.md"
_HEAD = """# Faults put into real machines, and how each ended

Written by `make faults ARGS=--record`. Each fault is put into a machine of its own that runs one test. The
seconds are those from the fault to its verdict, on an emulated CPU; where nothing failed they are those of
the whole cell. What the harness overcomes ends in PASS: another port is taken, a damaged snapshot is dropped
and the machine booted. `exit` is what a run with nothing worse in it exits with.

| fault | phase | verdict | exit | seconds |
|---|---|---|---|---|
"""
RANDOM = "## Faults drawn at random\n"  # where the part begins that `published` writes
_ROW = re.compile(
    r"\| (?P<fault>.+) \| (?P<phase>\w+) \| (?P<verdict>\w+) \| (?P<exit>\d) \| (?P<seconds>[\d.]+) \|"
)


class Row(NamedTuple):
    """The verdict and the time of one fault."""

    fault: str
    phase: str
    verdict: str
    exit: int
    seconds: float


def read(page: Path) -> dict[str, Row]:
    """Return fault -> row of a written table; {} if there is none."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    found = (match for match in map(_ROW.fullmatch, lines) if match)
    rows = (Row(m["fault"], m["phase"], m["verdict"], int(m["exit"]), float(m["seconds"])) for m in found)
    return {row.fault: row for row in rows}


def write(page: Path, found: Iterable[Row], order: Sequence[str]) -> None:
    """Write rows into the table, and keep those of other faults in `order`."""
    rows: Mapping[str, Row] = {**read(page), **{row.fault: row for row in found}}
    kept = [rows[name] for name in order if name in rows]
    lines = [
        f"| {row.fault} | {row.phase} | {row.verdict} | {row.exit} | {row.seconds:.1f} |\n" for row in kept
    ]
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    _, mark, random = text.partition(RANDOM)
    page.write_text(_HEAD + "".join(lines) + (f"\n{mark}{random}" if mark else ""), encoding="utf-8")
