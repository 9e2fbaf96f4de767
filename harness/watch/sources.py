"""The files that an agent or a suite is made of, and which of them changed: looked at, a few times a second.

Looking at 200 files takes 2 ms. Events of a file system would need a library, and editors that save by
renaming make them hard to read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

SUFFIXES = {".c", ".h", ".py", ".lark", ".yaml"}

Snapshot = Mapping[Path, tuple[int, int]]


def snapshot(folders: Iterable[Path], *, suffixes: Collection[str] = SUFFIXES) -> Snapshot:
    """Time of change and size of each source below `folders`; a folder may also be a file.

    Without `suffixes` every file is a source.
    """
    found = {}
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.rglob("*"):
            if not suffixes or path.suffix in suffixes or path == folder:
                # A file may be gone between two looks: editors rename.
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                found[path] = (status.st_mtime_ns, status.st_size)
    return found


def changed(old: Snapshot, new: Snapshot) -> list[Path]:
    """What differs, sorted."""
    return sorted(path for path in {*old, *new} if old.get(path) != new.get(path))


def saved_at(paths: Iterable[Path], now: float) -> float:
    """When the last of some files was saved, in seconds since the epoch; `now` if all of them are gone."""
    times = [path.stat().st_mtime for path in paths if path.exists()]
    return min(now, max(times, default=now))
