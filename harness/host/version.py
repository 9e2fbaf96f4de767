"""Identifies the harness by a digest of its own files: verdicts depend on them as on the agent's."""

from __future__ import annotations

import functools
from pathlib import Path

from harness.host.manifest import digest
from harness.host.resources import FOLDER

_CODE = Path(__file__).parents[1]


@functools.cache
def digest_of_harness() -> str:
    """Return a SHA-256 of the code of the harness, and of what it makes guests from."""
    return digest(digest_of(_CODE, "**/*"), digest_of(FOLDER, "**/*"))


def digest_of(folder: Path, *globs: str) -> str:
    """Return a SHA-256 of the names and contents of files in a folder, without bytecode and hidden files."""
    parts: list[str | bytes] = []
    for glob in globs:
        for path in sorted(folder.glob(glob)):
            if path.is_file() and path.suffix != ".pyc" and not path.name.startswith("."):
                parts += [path.relative_to(folder).as_posix(), path.read_bytes()]
    return digest(*parts)
