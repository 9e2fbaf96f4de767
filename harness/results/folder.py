"""Prepares a run's output folder: `out/<run id>`, linked as `out/latest`, or the one that the user names."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from harness.errors import ConfigError
from harness.host import files, locks, paths, private
from harness.plan.plan import Plan
from harness.results import results_file

REPORTS = ("results.json", "junit.xml", "summary.md", "report.html")
TRACEBACK = "traceback.txt"  # of an unexpected error of the harness
CLUSTER = "cluster.json"  # what all parts of a run on a cluster share
WRITTEN = ("plan.json", CLUSTER, TRACEBACK, *REPORTS)  # files of a run, which the next one there removes
CELLS = "cells"
PARTS = "parts"  # the outputs of machines of a run on a cluster that is not complete
REST = ".rest"  # the folder of the run of the cells without a result, until both are joined
_FOLDERS = (CELLS, PARTS, REST)


def check(folder: Path) -> None:
    """Raise ConfigError where a run could not write into the folder that the user named."""
    try:
        _check(folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error


def _check(folder: Path) -> None:
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    link = next((path for path in (folder, *folder.parents) if path.is_symlink() and not path.exists()), None)
    if link:
        raise ConfigError(f"{folder}: cannot be written: {link} is a link that leads nowhere")
    if not nearest.is_dir():
        raise ConfigError(f"{folder}: cannot be written: {nearest} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: cannot be written: no permission for {nearest}")
    _refuse_shared(nearest)
    if nearest == folder:
        _refuse_shared(folder.parent)
        _refuse_foreign(folder)


def make(folder: Path, *, own: bool) -> int:
    """Prepare `folder` for a run, and lock it until the returned file descriptor is closed.

    A folder of the run's `own` is new. A folder that the user names must be absent, empty, or that of an
    earlier run. The files of the earlier run are removed, because a mixture of two runs gives wrong results;
    other files stay. Raises ConfigError.
    """
    try:
        latest = folder.with_name("latest")
        if own and latest.exists() and not latest.is_symlink():
            raise ConfigError(
                f"{latest}: is not a symbolic link; the harness must be able to replace it",
                hint="move it away",
            )
        folder.mkdir(parents=True, exist_ok=not own)
        _refuse_shared(folder)
        _refuse_shared(folder.parent)
        claimed = locks.claim(folder)
        if claimed is None:
            raise ConfigError(
                f"{folder}: another run is writing there", hint="name another folder with --output"
            )
        if not own:
            _refuse_foreign(folder)
            _remove_earlier(folder)
        (folder / CELLS).mkdir()
        return claimed
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error


def reopen(folder: Path) -> int:
    """Lock the folder of an earlier run, whose files stay, until the returned descriptor is closed.

    Raises ConfigError.
    """
    try:
        _refuse_shared(folder)
        _refuse_shared(folder.parent)
        _refuse_foreign(folder)
        claimed = locks.claim(folder)
        if claimed is None:
            raise ConfigError(f"{folder}: another run is writing there", hint="wait until it has ended")
        (folder / CELLS).mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror}") from error
    return claimed


def withdraw(folder: Path) -> None:
    """Remove the new folder of a run that had nothing to run."""
    shutil.rmtree(folder, ignore_errors=True)


def point_latest_at(folder: Path) -> None:
    """Make `latest` beside the folder of a run lead to it. Raises OSError."""
    fresh = folder.with_name(f".latest.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    fresh.replace(folder.with_name("latest"))


def check_readable(folder: Path) -> None:
    """Raise ConfigError if another user could replace the results in `folder`."""
    place = paths.real(folder)
    for one in (place, place.parent):
        if one.is_dir():  # else its files cannot be read either
            _refuse_shared(one, hint="copy the results to a folder of this user")


def append_traceback(folder: Path, trace: str) -> None:
    """Append a traceback to traceback.txt in the folder of a run or cell; a disk that is full has no room."""
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        with (folder / TRACEBACK).open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"{trace.rstrip()}\n")


def _refuse_shared(folder: Path, hint: str = "name a folder of this user with --output") -> None:
    """Raise ConfigError if another user could replace a file or folder in `folder`.

    The run writes there by name: a link that replaces the folder of the run would lead its writes elsewhere.
    """
    status = folder.stat()
    if private.foreign(status):
        problem = f"{folder} belongs to uid {status.st_uid}, who could replace what a run writes there"
        raise ConfigError(problem, hint=hint)
    if private.replaceable(status):
        raise ConfigError(f"{folder}: every user of this host can replace what a run writes there", hint=hint)


def _refuse_foreign(folder: Path) -> None:
    """Raise ConfigError for a folder with files and no plan, or with a link where a run has a folder."""
    for name in _FOLDERS:
        if (folder / name).is_symlink():
            raise ConfigError(f"{folder / name}: is a link", hint="name another folder with --output")
    if not any(path for path in folder.iterdir() if path.name != CELLS or any(path.iterdir())):
        return
    try:
        Plan.model_validate_json(files.read_regular(folder / "plan.json", results_file.MAX_BYTES))
    except (OSError, ValueError) as error:
        hint = "name a new or empty folder, or that of an earlier run, with --output"
        raise ConfigError(f"{folder}: not empty, and not the folder of a run", hint=hint) from error


def _remove_earlier(folder: Path) -> None:
    for name in WRITTEN:
        (folder / name).unlink(missing_ok=True)
    for name in _FOLDERS:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
