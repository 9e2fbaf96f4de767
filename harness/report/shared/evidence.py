"""Finds the files of a cell in the output folder: links to them, its console, and a suite's output."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from harness.console import excerpt as console
from harness.console.excerpt import Excerpt
from harness.results.model import CellResult

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")
OUTPUT_BYTES = 8 << 10  # of a command's output, in each report
FILES = (
    "console.log",
    "dmesg.txt",
    "agent.log",
    "command.log",
    "verifier.log",
    "selftest.jsonl",
    "facts.json",
    "domain.xml",
)


@dataclass(frozen=True)
class Evidence:
    """Links are relative to the report; `output` is the end of a suite's output; `console` may be missing."""

    output: str = ""
    links: tuple[tuple[str, str], ...] = ()
    console: Excerpt | None = None


def gather(cell: CellResult, folder: Path | None) -> Evidence:
    """Return the files of `cell`; none without a folder, or if the cell's id is no plain file name."""
    if folder is None or not _FOLDER_NAME.fullmatch(cell.id):
        return Evidence()
    place = folder / "cells" / cell.id
    reasons = [cell.reason, *(test.reason for test in cell.tests if not test.verdict.expected)]
    links = [(name, f"cells/{quote(cell.id)}/{name}") for name in FILES if _is_plain(place / name)]
    has_console = _is_plain(place / "console.log")
    excerpt = console.read(place / "console.log", "\n".join(reasons)) if has_console else None
    return Evidence(output_of(cell, folder), tuple(links), excerpt)


def output_of(cell: CellResult, folder: Path | None) -> str:
    """Return the end of a suite's output, in whole lines; "" if the folder has none."""
    if folder is None or not _FOLDER_NAME.fullmatch(cell.id):
        return ""
    path = folder / "cells" / cell.id / "command.log"
    if not _is_plain(path):
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - OUTPUT_BYTES))
        text = file.read(OUTPUT_BYTES).decode("utf-8", "replace")
    if size <= OUTPUT_BYTES:
        return text
    _, newline, lines = text.partition("\n")
    return f"[{size - OUTPUT_BYTES:,} bytes before this are in command.log]\n{lines if newline else text}"


def _is_plain(path: Path) -> bool:
    """Whether a file of a cell is one, and no part of its path in the output folder is a link.

    A folder from another host may have links to files of this one.
    """
    return path.is_file() and not any(part.is_symlink() for part in (path, path.parent, path.parent.parent))
