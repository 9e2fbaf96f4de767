"""Finds the files in `images/` that are no Python: lists of packages, the guest's init, the canary."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "images"


def words(name: str) -> tuple[str, ...]:
    """Return the entries of a list file: one on each line; `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in (FOLDER / name).read_text().splitlines())
    return tuple(line for line in lines if line)
