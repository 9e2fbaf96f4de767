"""The folder `images/`: what a guest is made of, as files that are no Python."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "images"


def words(name: str) -> tuple[str, ...]:
    """The entries of a list: one a line, `#` begins a comment."""
    lines = (line.partition("#")[0].strip() for line in (FOLDER / name).read_text().splitlines())
    return tuple(line for line in lines if line)
