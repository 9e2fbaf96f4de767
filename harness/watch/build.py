"""What `--watch` builds after a save: first what its tests load, and the rest while nobody waits.

Most of the time of `make build` goes into BPF programs of families that a forced hook set never loads. An
object without them is compiled in half of the time and is half as large, so that it is sent sooner as well.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from agent.hooks.points import TRAMPOLINES
from harness.lab import supplies
from harness.watch import update

OBJECT = "agent/bpf/fim.bpf.o"
WHOLE = "fim.bpf.o"
SHOWN = 30  # lines of a compiler that failed

# bpf/fim.bpf.c: each family, and how the names of its programs begin.
FAMILIES = {
    "TRAMPOLINE": TRAMPOLINES,
    "KPROBE": ("kprobe", "kretprobe", "tail"),
    "KPROBE_MULTI": ("kprobe_multi", "kretprobe_multi"),
    "TRACEPOINT": ("raw_tp", "tracepoint"),
}


class Project(Protocol):
    """The agent's sources, and what is built of them."""

    def build(self) -> str:
        """Build what is to be tested; returns what went wrong, "" if nothing did."""

    def build_rest(self) -> str:
        """Build everything; returns as `build` does."""

    def files(self) -> dict[str, update.Member]:
        """The agent's files as `build` left them."""

    def needs(self, programs: Iterable[str]) -> None:
        """From now on `build` may leave out what these programs do not need; none of them: nothing."""


class Nothing:
    """The project of a plan of suites alone: whoever builds them, it is not the harness."""

    def build(self) -> str:
        """Nothing to build."""
        return ""

    build_rest = build

    def files(self) -> dict[str, update.Member]:
        """No files of the agent."""
        return {}

    def needs(self, programs: Iterable[str]) -> None:
        """No programs."""


class Made:
    """This project, by make as a developer types it."""

    def __init__(self, root: Path = supplies.ROOT) -> None:
        self._root = root
        self.object = WHOLE  # the file in build/

    def build(self) -> str:
        """The object, perhaps without some families, and what else a bundle is made of."""
        return self._make(f"build/{self.object}", "build/fim-gen", "build/rules_tables.py")

    def build_rest(self) -> str:
        """As `make build`."""
        return self._make("build")

    def files(self) -> dict[str, update.Member]:
        """A bundle's, with the object that was built last."""
        supplies.bundle.cache_clear()
        found = update.members(supplies.bundle())
        found[OBJECT] = update.Member((self._root / "build" / self.object).read_bytes(), 0o644)
        return found

    def needs(self, programs: Iterable[str]) -> None:
        """Leave out the families that have none of these programs."""
        kinds = {program.partition("__")[0] for program in programs}
        spare = [name for name, prefixes in FAMILIES.items() if kinds and not kinds & set(prefixes)]
        self.object = f"fim-without-{'.'.join(spare)}.bpf.o" if spare else WHOLE

    def _make(self, *targets: str) -> str:
        argv = ["make", "-s", *targets]
        done = subprocess.run(argv, cwd=self._root, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).rstrip().splitlines()
        return "\n".join(said[-SHOWN:] or ["make said nothing"]) if done.returncode else ""
