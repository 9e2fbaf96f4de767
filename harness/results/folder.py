"""The folder that a run writes: `out/<run id>` with `out/latest` beside it, or the one that was named."""

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
    """Make it ready for a run; the folder is that run's alone until what is returned is closed.

    A folder of the run's `own`, new under the parent of all runs, becomes `latest` there. One that the user
    named is empty, or holds an earlier run, which this one replaces: verdicts of two runs in one folder would
    lie. What was added to that folder stays. Raises ConfigError, also for any other folder that is not empty.
    """
    try:
        folder.mkdir(parents=True, exist_ok=not own)
        claimed = locks.claim(folder)
        if claimed is None:
            raise ConfigError(f"{folder}: another run writes there", hint="name another folder with --output")
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
    """Raise ConfigError for a folder with files in it that has no plan of a run."""
    if not any(path for path in folder.iterdir() if path.name != CELLS or any(path.iterdir())):
        return
    try:
        Plan.model_validate_json((folder / "plan.json").read_bytes())
    except (OSError, ValueError) as error:
        hint = "name a new or empty folder, or that of an earlier run, with --output"
        raise ConfigError(f"{folder}: is not empty, and no run wrote it", hint=hint) from error


def _remove_earlier(folder: Path) -> None:
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    if (folder / CELLS).exists():
        shutil.rmtree(folder / CELLS)
