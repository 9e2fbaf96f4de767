"""Finds the files of the user's suites on this host, none of them outside the matrix's folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.errors import ConfigError
from harness.host import manifest
from harness.host.paths import real
from harness.plan.matrix import Suite
from harness.plan.plan import Plan

MAX_FILES = 10_000
MAX_BYTES = 256 << 20  # a guest holds the files in its memory
_GLOB = frozenset("*?[")


def check(plan: Plan, base: Path) -> None:
    """Raise ConfigError for files of a planned suite that do not exist or are outside of `base`."""
    for suite in {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}.values():
        members(suite, base)


def check_existing(plan: Plan, base: Path) -> None:
    """Like `check`, but a file may not be built yet. Raises ConfigError."""
    for suite in {cell.suite.name: cell.suite for cell in plan.cells if cell.suite}.values():
        for top in existing(suite, base):
            for path in _below(top):
                _check_file(path, base, suite)


def members(suite: Suite, base: Path) -> dict[str, Path]:
    """The files of a suite by their path in the guest, relative to the suite's folder. Raises ConfigError.

    A named file or folder goes directly into the suite's folder; the files of a folder keep their path in it.
    """
    paths: dict[str, Path] = {}
    size = 0
    for top in tops(suite, base):
        for path in _below(top):
            _check_file(path, base, suite)
            name = path.relative_to(top.parent).as_posix()
            if paths.setdefault(name, path) != path:
                raise ConfigError(
                    f"suite {suite.name!r}: {paths[name]} and {path} have the same name in the guest"
                )
            size += path.stat().st_size
        if len(paths) > MAX_FILES or size > MAX_BYTES:
            limit = f"{MAX_FILES} files and {MAX_BYTES >> 20} MiB"
            raise ConfigError(f"suite {suite.name!r}: its files are more than {limit}")
    return paths


def digest(suite: Suite, base: Path) -> str:
    """A SHA-256 of the suite's files: names, contents, and which are executable. Raises ConfigError."""
    words: list[str | bytes] = []
    for name, path in sorted(members(suite, base).items()):
        executable = path.stat().st_mode & stat.S_IXUSR  # another umask is no other file
        words += [os.fsencode(name), "x" if executable else "", manifest.file_digest(path)]
    return manifest.digest(*words)


def tops(suite: Suite, base: Path) -> list[Path]:
    """The files and folders that a suite names, globs expanded. Raises ConfigError if one is missing."""
    return [path for name in suite.files for path in _named(name, suite, base)]


def existing(suite: Suite, base: Path) -> list[Path]:
    """The paths of `tops` that exist now."""
    paths = (path for name in suite.files for path in _matching(name, base))
    return [path for path in paths if path.exists()]


def _matching(name: str, base: Path) -> list[Path]:
    # A matrix was checked for this with the line; a plan.json may come from another host.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ConfigError(f"{name}: must be below the folder of the suite's files")
    return sorted(base.glob(name)) if _GLOB & set(name) else [base / name]


def _named(name: str, suite: Suite, base: Path) -> list[Path]:
    paths = _matching(name, base)
    if not paths or not paths[0].exists():
        problem = "no file matches" if _GLOB & set(name) else "no such file or folder"
        raise ConfigError(
            f"{name}: {problem}", hint=f"build it first: suite {suite.name!r} needs it in {base}"
        )
    return paths


def _below(top: Path) -> Iterator[Path]:
    """A file, or all files in a folder, in a fixed order. Links to folders are listed and not followed."""
    if not top.is_dir():
        yield top
        return
    for folder, folders, names in os.walk(top):
        folders.sort()
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in sorted((*names, *links)))


def _check_file(path: Path, base: Path, suite: Suite) -> None:
    shown = path.relative_to(base)
    if not real(path).is_relative_to(real(base)):
        raise ConfigError(f"{shown}: is a link that leads outside {base}", hint="copy the file there instead")
    if not path.exists():
        raise ConfigError(f"{shown}: no such file", hint=f"suite {suite.name!r} needs it in {base}")
    if not stat.S_ISREG(path.stat().st_mode):
        hint = f"remove it from the files of suite {suite.name!r}"
        raise ConfigError(f"{shown}: neither a file nor a folder of files", hint=hint)
