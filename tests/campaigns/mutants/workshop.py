"""A copy of the tree, in which one fault at a time is made and built."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests import ROOT
from tests.campaigns.mutants.model import Mutant

_PRODUCTS = ("fim.bpf.o", "fim-casts.bpf.o", "fim-gen", "rules_tables.py")
_LISTED = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
# The tree has set up packages and environment, which its copy shares.
_SET_UP = ("-o", "build/.packages", "-o", "requirements.lock", "INSTALLED=requirements.lock")
_BUILD = ("make", "-s", *_SET_UP, "build")


class MisfitError(ValueError):
    """A fault no longer fits the code, or does not compile."""


def patched(mutant: Mutant, root: Path) -> str:
    """Return the mutant's file with the fault; raises MisfitError unless it fits exactly once."""
    text = (root / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        found = text.count(mutant.old)
        raise MisfitError(f"{mutant.name}: {mutant.file} has its line {found} times: the code has moved on")
    return text.replace(mutant.old, mutant.new)


def copy_tree(copy: Path) -> None:
    """Copy the tree with its uncommitted changes, and build it. Raises MisfitError."""
    listed = subprocess.run(_LISTED, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    built = [f"build/{name}" for name in _PRODUCTS]
    for name in (name for name in [*listed.split("\0"), *built] if name and (ROOT / name).is_file()):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(sys.prefix)
    _build(copy, "the tree as it is")


@contextlib.contextmanager
def mutated(copy: Path, mutant: Mutant) -> Iterator[None]:
    """Build the copy with the fault for the block. Raises MisfitError."""
    sound = (copy / mutant.file).read_text()
    (copy / mutant.file).write_text(patched(mutant, copy))
    try:
        _build(copy, mutant.name)
        yield
    finally:
        (copy / mutant.file).write_text(sound)


def _build(copy: Path, what: str) -> None:
    made = subprocess.run(_BUILD, cwd=copy, capture_output=True, text=True, check=False)
    if made.returncode:
        raise MisfitError(f"{what} does not compile: {made.stderr.strip()[:300]}")
