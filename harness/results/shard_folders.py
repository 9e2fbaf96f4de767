"""Reads the output folders of shards, which may come from other hosts, and writes the merged folder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import ConfigError, IncompleteError
from harness.host import files
from harness.plan.plan import Plan
from harness.results import results_file
from harness.results.folder import check_readable
from harness.results.model import Results

MAX_EVIDENCE = 64 << 20  # bytes of one file of a cell; a run writes at most half of that
_ATTEMPT = re.compile(r"attempt-[1-9]", re.ASCII)  # of a machine that was lost
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,254}")


@dataclass(frozen=True)
class Shard:
    """The content of one shard's output folder."""

    folder: Path
    plan: Plan
    results: Results


def read(folder: Path) -> Shard:
    """Read a shard.

    Raises IncompleteError if a file is missing, and ConfigError if one cannot be read or is of another user.
    """
    for name in ("plan.json", "results.json"):
        if not (folder / name).is_file():
            raise IncompleteError(f"{folder}: the shard is missing: no {name}")
    check_readable(folder)
    return Shard(folder, read_plan(folder / "plan.json"), results_file.load(folder / "results.json"))


def read_plan(path: Path) -> Plan:
    """Read plan.json; raises ConfigError."""
    try:
        return Plan.model_validate_json(results_file.read_bounded(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not a valid plan", hint="use a plan.json that a run wrote") from error


def write(
    merged: Results,
    plan: Plan,
    shards: Sequence[Shard],
    output: Path,
    write_reports: Callable[[Results, Path], None],
) -> None:
    """Write one output folder, whole or not at all. Raises ConfigError if `output` exists and is not empty.

    `write_reports` writes results.json and the reports into a folder.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(f"{output}: already exists", hint="name a new folder with --output")
    partial = output.absolute().with_name(f".{output.name}.{os.getpid()}")
    try:
        (partial / "cells").mkdir(parents=True)
        for shard in shards:
            copy_cells(shard, partial / "cells")
        files.write_atomic(partial / "plan.json", plan.to_json())
        write_reports(merged, partial)
        partial.replace(output)
    except OSError as error:
        raise ConfigError(f"{output}: cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def copy_cells(shard: Shard, to: Path) -> None:
    """Copy the folders of a shard's cells. Links are skipped: they could name any file of this host."""
    if (shard.folder / "cells").is_symlink():
        return
    for cell in shard.results.cells:
        source = shard.folder / "cells" / cell.id
        if not _FOLDER_NAME.fullmatch(cell.id) or not source.is_dir() or source.is_symlink():
            continue
        _copy_files(source, to / cell.id)
        for attempt in sorted(source.iterdir()):
            if _ATTEMPT.fullmatch(attempt.name) and attempt.is_dir() and not attempt.is_symlink():
                _copy_files(attempt, to / cell.id / attempt.name)


def _copy_files(source: Path, to: Path) -> None:
    to.mkdir(exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_file() and not path.is_symlink():
            if path.stat().st_size > MAX_EVIDENCE:
                raise ConfigError(f"{path}: larger than {MAX_EVIDENCE >> 20} MiB")
            shutil.copyfile(path, to / path.name)
