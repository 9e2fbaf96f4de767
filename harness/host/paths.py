"""Paths that a user names."""

from __future__ import annotations

import os
from pathlib import Path


def real(path: Path) -> Path:
    """Return `path` absolute and without links.

    Links that lead in a circle stay in it, so a later look finds no file; `Path.resolve` raises RuntimeError.
    """
    return Path(os.path.realpath(path))
