"""Detects changed source files by polling their times and sizes.

Polling 200 files takes 2 ms. File system events would need a library, and are hard to interpret for editors
that save by renaming.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

SUFFIXES = {".c", ".h", ".py", ".lark", ".yaml"}

Snapshot = Mapping[Path, tuple[int, int]]


def snapshot(folders: Iterable[Path], *, suffixes: Collection[str] = SUFFIXES) -> Snapshot:
    """Return (mtime in ns, size) of each source below `folders`; a folder may also be a file.

    Without `suffixes` every file counts.
    """
    found = {}
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if not suffixes or path.suffix in suffixes or path == folder:
                # Editors save by renaming: a listed file may no longer exist.
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                found[path] = (status.st_mtime_ns, status.st_size)
    return found


def changed(old: Snapshot, new: Snapshot) -> list[Path]:
    """Return the paths that differ, sorted."""
    return sorted(path for path in {*old, *new} if old.get(path) != new.get(path))


def saved_at(paths: Iterable[Path], now: float) -> float:
    """Return the time of the last save, in seconds since the epoch; `now` if no file exists any more."""
    times = [path.stat().st_mtime for path in paths if path.exists()]
    return min(now, max(times, default=now))
