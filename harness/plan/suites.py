"""The files of `suites:` on this host: files, folders and globs, none from outside the matrix's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError
from harness.plan.matrix import Suite
from harness.plan.plan import Plan

MAX_FILES = 10_000
MAX_BYTES = 256 << 20  # a guest keeps them in its memory
_GLOB = frozenset("*?[")


def check(plan: Plan, base: Path) -> None:
    """Raise ConfigError for files of a planned suite that do not exist, or lie outside of `base`."""
    for suite in {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}.values():
        members(suite, base)


def members(suite: Suite, base: Path) -> dict[str, Path]:
    """The files of a suite by their names in the guest, relative to its folder there. Raises ConfigError.

    A file and a folder keep their last name; what is in a folder keeps its place in it.
    """
    found: dict[str, Path] = {}
    size = 0
    for top in tops(suite, base):
        for path in _below(top):
            _check_file(path, base, suite)
            name = path.relative_to(top.parent).as_posix()
            if found.setdefault(name, path) != path:
                raise ConfigError(
                    f"suite {suite.name!r}: {found[name]} and {path} have one name in the guest"
                )
            size += path.stat().st_size
        if len(found) > MAX_FILES or size > MAX_BYTES:
            bound = f"{MAX_FILES} files and {MAX_BYTES >> 20} MiB"
            raise ConfigError(f"suite {suite.name!r}: its files are more than {bound}")
    return found


def tops(suite: Suite, base: Path) -> list[Path]:
    """The files and folders that a suite names, globs expanded. Raises ConfigError if one is missing."""
    return [path for name in suite.files for path in _named(name, suite, base)]


def existing(suite: Suite, base: Path) -> list[Path]:
    """What exists of `tops` now."""
    found = (path for name in suite.files for path in _matching(name, base))
    return [path for path in found if path.exists()]


def _matching(name: str, base: Path) -> list[Path]:
    return sorted(base.glob(name)) if _GLOB & set(name) else [base / name]


def _named(name: str, suite: Suite, base: Path) -> list[Path]:
    found = _matching(name, base)
    if not found or not found[0].exists():
        what = "no file matches" if _GLOB & set(name) else "no such file or folder"
        raise ConfigError(
            f"{name}: {what}", hint=f"build it first: it is named in suite {suite.name!r}, from {base}"
        )
    return found


def _below(top: Path) -> Iterator[Path]:
    """The file, or all files in the folder, in a fixed order; links to folders are listed, not followed."""
    if not top.is_dir():
        yield top
        return
    for folder, folders, names in os.walk(top):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted((*names, *links)))


def _check_file(path: Path, base: Path, suite: Suite) -> None:
    shown = path.relative_to(base)
    if not path.resolve().is_relative_to(base.resolve()):
        raise ConfigError(f"{shown}: a link leads it out of {base}")
    if not path.exists():
        raise ConfigError(f"{shown}: no such file", hint=f"it is named in suite {suite.name!r}, from {base}")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigError(f"{shown}: neither a file nor a folder of files", hint=f"of suite {suite.name!r}")
