"""What the output folder has about a cell besides its results: files to link to, and its console."""

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
    """Links are relative to the report; the console is None where there is none.

    `output` is the end of what a suite's command printed.
    """

    output: str = ""
    links: tuple[tuple[str, str], ...] = ()
    console: Excerpt | None = None


def gather(cell: CellResult, folder: Path | None) -> Evidence:
    """What is in the folder of `cell`; nothing for an id that is no plain file name, or without a folder."""
    if folder is None or not _FOLDER_NAME.fullmatch(cell.id):
        return Evidence()
    place = folder / "cells" / cell.id
    reasons = [cell.reason, *(test.reason for test in cell.tests if not test.verdict.expected)]
    links = [(name, f"cells/{quote(cell.id)}/{name}") for name in FILES if _is_plain(place / name)]
    has_console = _is_plain(place / "console.log")
    excerpt = console.read(place / "console.log", "\n".join(reasons)) if has_console else None
    return Evidence(output_of(cell, folder), tuple(links), excerpt)


def output_of(cell: CellResult, folder: Path | None) -> str:
    """The end of what a suite's command printed, in whole lines; "" where nothing is known of it."""
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
    """A file, and no link: folders come from other machines, and a link could name any file of this one."""
    return path.is_file() and not path.is_symlink()
