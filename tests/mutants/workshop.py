"""Copies the tree, puts one fault into the copy, builds it, and lets the harness find out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.mutants.catalogue import Mutant

ROOT = Path(__file__).resolve().parents[2]
_PRODUCTS = ("fim.bpf.o", "fim-gen", "rules_tables.py")


def patched(mutant: Mutant, root: Path) -> str:
    """The text of the mutant's file with the fault in it; raises ValueError unless it fits exactly once."""
    text = (root / mutant.file).read_text()
    if text.count(mutant.old) != 1:
        found = text.count(mutant.old)
        raise ValueError(f"{mutant.name}: {mutant.file} has its line {found} times: the code has moved on")
    return text.replace(mutant.old, mutant.new)


def build(mutant: Mutant, copy: Path) -> None:
    """Make `copy` a tree with that fault, built as `make build` builds it."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / "build").mkdir()
    for name in _PRODUCTS:  # as new as their sources: only what the fault is in is built again
        shutil.copy(ROOT / "build" / name, copy / "build" / name)
    (copy / mutant.file).write_text(patched(mutant, ROOT))
    (copy / ".venv").symlink_to(sys.prefix)
    set_up = ("-o", "build/.packages", "-o", ".venv/.done")  # by whoever runs this test: not again for a copy
    subprocess.run(["make", "-s", *set_up, "build"], cwd=copy, check=True)


def verdicts(copy: Path, kernel: str, tests: tuple[str, ...]) -> dict[str, str]:
    """Run tests of a built copy on one kernel: test -> verdict, from its results."""
    command = [sys.executable, "-m", "harness.cli", "run", "--matrix", "matrix.yaml", "--kernel", kernel]
    chosen = [word for test in tests for word in ("--test", test)]
    subprocess.run(
        [*command, *chosen, "--output", "out"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        check=False,
    )
    results = json.loads((copy / "out" / "results.json").read_text())
    return {test["name"]: test["verdict"] for cell in results["cells"] for test in cell["tests"]}
