"""Builds for `--watch`: first what its tests load, and the rest after the verdict.

Most of the time of `make build` goes into families of BPF programs that a forced hook set never loads. An
object without them compiles in half of the time and has half of the size, so it is also sent faster.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from harness.guest.deploy import OBJECT
from harness.lab import supplies
from harness.watch import update

WHOLE = "fim.bpf.o"
MAX_LINES = 30  # of a failed build

# The families of bpf/fim.bpf.c, with the prefixes of their programs.
FAMILIES = {
    "TRAMPOLINE": ("lsm", "fentry", "fexit"),
    "KPROBE": ("kprobe", "kretprobe", "tail"),
    "KPROBE_MULTI": ("kprobe_multi", "kretprobe_multi", "tail_multi"),
    "TRACEPOINT": ("raw_tp", "tracepoint"),
}


class Project(Protocol):
    """Builds the agent, and reads the built files."""

    def build(self) -> str:
        """Build what the tests load; return the error, "" if it succeeded."""

    def build_rest(self) -> str:
        """Build everything; return the error, "" if it succeeded."""

    def files(self) -> dict[str, update.Member]:
        """Return the agent's files after `build`, by name."""

    def needs(self, programs: Iterable[str]) -> None:
        """Let `build` leave out families without any of these programs; without programs it builds all."""


class NoProject:
    """The project of a plan that has only suites: the harness builds no suite."""

    def build(self) -> str:
        """Build nothing."""
        return ""

    build_rest = build

    def files(self) -> dict[str, update.Member]:
        """Return no files."""
        return {}

    def needs(self, programs: Iterable[str]) -> None:
        """Ignore the programs."""


class MakeProject:
    """This project, built by make."""

    def __init__(self, root: Path = supplies.ROOT, arch: str = "amd64", casts: bool = False) -> None:
        self._root = root
        self._casts = ("fim-casts.bpf.o",) if casts else ()  # only kernels under lockdown load it
        self._arch = arch
        self._folder = Path("build", supplies.folder_of(arch))
        self.object = WHOLE  # the file in the folder

    def build(self) -> str:
        """Build the object, perhaps without some families, and the other files of a bundle."""
        compiled = (str(self._folder / name) for name in (self.object, *self._casts, "fim-gen"))
        return self._make(*compiled, "build/rules_tables.py")

    def build_rest(self) -> str:
        """Run `make build`, and that of another architecture of the guest."""
        return self._make(*dict.fromkeys(("build", supplies.make_target(self._arch))))

    def files(self) -> dict[str, update.Member]:
        """Return the files of a bundle, with the object that was built last."""
        supplies.bundle.cache_clear()
        found = update.members(supplies.bundle(self._arch))
        found[OBJECT] = update.Member((self._root / self._folder / self.object).read_bytes(), 0o644)
        return found

    def needs(self, programs: Iterable[str]) -> None:
        """Leave out the families without any of these programs."""
        kinds = {program.partition("__")[0] for program in programs}
        spare = [name for name, prefixes in FAMILIES.items() if kinds and not kinds & set(prefixes)]
        self.object = f"fim-without-{'.'.join(spare)}.bpf.o" if spare else WHOLE

    def _make(self, *targets: str) -> str:
        argv = ["make", "-s", *targets]
        done = subprocess.run(argv, cwd=self._root, capture_output=True, text=True, check=False)
        output = (done.stdout + done.stderr).rstrip().splitlines()
        return "\n".join(output[-MAX_LINES:] or ["make failed without output"]) if done.returncode else ""
