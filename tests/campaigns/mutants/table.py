"""The table mutant x scenario in `docs/mutants.md`, which `make mutants` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests import ROOT
from tests.campaigns.mutants.catalogue import MUTANTS

PAGE = ROOT / "docs" / "mutants.md"
_HEAD = """# Deliberate faults, and what notices them

Written by `make mutants ARGS=--record`, which puts each fault into a copy of the code, builds it, and runs
the self-tests that must notice on a real kernel. First it runs all of them on the code as it is: there each
must pass. A fault that a test lets pass makes the command fail, and so does one that does not fit the code.

| fault | where | what noticed |
|---|---|---|
"""
_ROW = re.compile(r"\| (?P<name>[\w-]+) \| `[^`]+` \| (?P<found>.+) \|")

Found = Mapping[str, str]
"""Test -> verdict."""


def read(page: Path) -> dict[str, dict[str, str]]:
    """Return fault -> test -> verdict of a written table; {} if there is none."""
    lines = page.read_text(encoding="utf-8").splitlines() if page.exists() else []
    rows = (match for match in map(_ROW.fullmatch, lines) if match)
    return {row["name"]: dict(cell.split(" ", 1) for cell in row["found"].split(", ")) for row in rows}


def write(page: Path, found: Mapping[str, Found]) -> None:
    """Write these verdicts into the table, and keep those of other faults."""
    rows: dict[str, Found] = {**read(page), **found}
    lines = [
        f"| {one.name} | `{one.file}` | {_cell(rows[one.name])} |\n" for one in MUTANTS if one.name in rows
    ]
    page.write_text(_HEAD + "".join(lines), encoding="utf-8")


def _cell(found: Found) -> str:
    return ", ".join(f"{test} {verdict}" for test, verdict in found.items())
