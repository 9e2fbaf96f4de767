"""Finds the rule files in directories, and notes what else lies there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from agent.errors import UsageError
from agent.rules.problems import clean

SUFFIXES = (".yaml", ".yml", ".policy")
DEFAULT = "default.policy"
MAX_NOTES = 20  # of one directory; the rest is counted


class RuleFiles(NamedTuple):
    """Rule files in loading order. `notes` has a line for each thing in a directory that is not read."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...]


def find(paths: Iterable[Path]) -> RuleFiles:
    """Return files as given, and the rule files of directories.

    Raises UsageError for a directory without rule files. Names that begin with a dot are ignored: they are
    leftovers of editors and archives, or the versions of a ConfigMap.
    """
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        visible = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        reasons = {entry: _not_read(entry) for entry in visible}
        inside = sorted((entry for entry in visible if not reasons[entry]), key=_loading_order)
        if not inside:
            raise UsageError(f"no rule files in {path}", hint=f"rule files end in {', '.join(SUFFIXES)}")
        files += inside
        notes += _lines({entry: reason for entry, reason in reasons.items() if reason}, path)
    return RuleFiles(tuple(files), tuple(notes))


def _not_read(path: Path) -> str:
    """Return why an entry of a directory is no rule file; "" for a rule file."""
    if path.is_dir():
        return "it is a directory; name it with --rules to load its files"
    return "" if path.suffix in SUFFIXES else f"rule files end in {', '.join(SUFFIXES)}"


def _lines(reasons: dict[Path, str], directory: Path) -> list[str]:
    lines = [clean(f"{path} is not read: {reason}") for path, reason in reasons.items()]
    more = len(lines) - MAX_NOTES
    return [*lines[:MAX_NOTES], clean(f"{more} more in {directory} are not read")] if more > 0 else lines


def _loading_order(path: Path) -> tuple[bool, str]:
    """Sort `default.policy` first, so that every other file can override its rules."""
    return path.name != DEFAULT, path.name
