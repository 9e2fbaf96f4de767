"""Prepares a run's output folder: `out/<run id>`, linked as `out/latest`, or the one that the user names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.errors import ConfigError
from harness.host import locks
from harness.plan.plan import Plan

REPORTS = ("results.json", "junit.xml", "summary.md", "report.html")
TRACEBACK = "traceback.txt"  # of an unexpected error of the harness
WRITTEN = ("plan.json", TRACEBACK, *REPORTS)  # the files of a run, which the next run in its folder removes
CELLS = "cells"


def make(folder: Path, *, own: bool) -> int:
    """Prepare `folder` for a run, and lock it until the returned file descriptor is closed.

    A folder of the run's `own` is new, and `latest` beside it becomes a link to it. A folder that the user
    names must be absent, empty, or that of an earlier run. The files of the earlier run are removed, because
    a mixture of two runs gives wrong results; other files stay. Raises ConfigError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=not own)
        claimed = locks.claim(folder)
        if claimed is None:
            raise ConfigError(
                f"{folder}: another run is writing there", hint="name another folder with --output"
            )
        if own:
            _point_latest_at(folder)
        else:
            _refuse_foreign(folder)
            _remove_earlier(folder)
        (folder / CELLS).mkdir()
        return claimed
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error


def _point_latest_at(folder: Path) -> None:
    fresh = folder.with_name(f".latest.{os.getpid()}")
    fresh.symlink_to(folder.name)
    fresh.replace(folder.with_name("latest"))


def _refuse_foreign(folder: Path) -> None:
    """Raise ConfigError for a folder that has files and no plan of a run."""
    if not any(path for path in folder.iterdir() if path.name != CELLS or any(path.iterdir())):
        return
    try:
        Plan.model_validate_json((folder / "plan.json").read_bytes())
    except (OSError, ValueError) as error:
        hint = "name a new or empty folder, or that of an earlier run, with --output"
        raise ConfigError(f"{folder}: not empty, and not the folder of a run", hint=hint) from error


def _remove_earlier(folder: Path) -> None:
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    if (folder / CELLS).exists():
        shutil.rmtree(folder / CELLS)
