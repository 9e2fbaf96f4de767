"""Deliberate faults that a campaign must find by itself: those of the mutants, and some of its own.

    python -m tests.campaigns.law.planted FOLDER NAME...

builds agents with these faults into files of the folder, for `--agent`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.campaigns.mutants import workshop
from tests.campaigns.mutants.catalogue import MUTANTS
from tests.campaigns.mutants.model import Mutant
from tests.campaigns.mutants.warm import bundle

OWN = (
    Mutant(
        "mounts-not-distinguished",
        "bpf/record.h",
        "file->mount_id = BPF_CORE_READ(mount, mnt_id);",
        "file->mount_id = 0;",
        (),
    ),
    Mutant(
        "directories-above-not-watched",
        "agent/rules/load.py",
        "ancestors.extend(kind, condition)",
        "condition",
        (),
    ),
    Mutant("lists-match-nothing", "agent/rules/evaluate.py", "elif matcher.exact:", "elif False:", ()),
    Mutant(
        "stars-cross-components",
        "agent/rules/patterns.py",
        "regex.glob(text, path=path)",
        "regex.glob(text, path=False)",
        (),
    ),
)
FAULTS = {mutant.name: mutant for mutant in (*MUTANTS, *OWN)}


@contextlib.contextmanager
def agent(name: str) -> Iterator[bytes]:
    """The bundle of an agent with that fault. Raises MisfitError if the fault does not fit the code."""
    with tempfile.TemporaryDirectory(prefix="law-planted-") as folder:
        workshop.copy_tree(Path(folder))
        with workshop.mutated(Path(folder), FAULTS[name]):
            yield bundle(Path(folder))


def main(folder: Path, names: Sequence[str]) -> None:
    """Write the bundle of each fault."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="law-planted-") as copy:
        workshop.copy_tree(Path(copy))
        for name in names:
            with workshop.mutated(Path(copy), FAULTS[name]):
                (folder / f"{name}.tar").write_bytes(bundle(Path(copy)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
