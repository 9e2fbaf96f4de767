"""`harness run --watch`: one machine stays up; each save builds, updates the guest and tests again."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.selftest import catalogue
from harness import sources, supply
from harness.errors import ConfigError, HarnessError
from harness.guest import update
from harness.pytest_worker import Worker
from harness.report.terminal import Lines
from harness.results import TestResult
from harness.run import Run
from harness.standing import StandingBench, StandingKeeper, StandingMachine
from harness.verdict import Verdict, run_exit_code

FOLDERS = (supply.ROOT / "bpf", supply.ROOT / "agent")
LOOK_S = 0.2
BUILD = ("make", "-s", "build")
SHOWN = 30  # lines of a compiler that failed

Build = Callable[[], str]
"""Builds the agent; returns what went wrong, "" if nothing did."""


def make_build() -> str:
    """`make build`, as a developer types it."""
    done = subprocess.run(BUILD, cwd=supply.ROOT, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).rstrip().splitlines()
    return "\n".join(said[-SHOWN:] or ["make said nothing"]) if done.returncode else ""


def agent_files() -> dict[str, update.Member]:
    """The agent's files as they are built now."""
    supply.bundle.cache_clear()
    return update.members(supply.bundle())


def events_of(tests: Sequence[str]) -> tuple[str, ...]:
    """The event types that these tests need, by their labels."""
    found = (catalogue.by_name(test) for test in tests)
    needs = (need for scenario in found if scenario for need in scenario.needs)
    return tuple(dict.fromkeys(need.removeprefix("event:") for need in needs if need.startswith("event:")))


@dataclass
class Watch:
    """Rounds of one run; the machine is booted for the first."""

    run: Run
    progress: Lines
    folders: Sequence[Path] = FOLDERS
    build: Build = make_build
    files: Callable[[], dict[str, update.Member]] = agent_files
    rounds: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.run.plan.machines()) > 1:
            names = ", ".join(self.run.plan.machines())
            raise ConfigError(
                f"--watch: of which machine? there are {names}", hint="choose with --kernel NAME"
            )
        cells = tuple(
            cell.model_copy(update={"events": events_of(cell.tests)}) for cell in self.run.plan.cells
        )
        self.run.plan = self.run.plan.model_copy(update={"cells": cells})
        bench = StandingBench(self.run.bench, self.files)
        self.worker = Worker(self.run.job(), bench)
        self.keeper = StandingKeeper(self.worker._machine, self.worker.keeper.pace)
        self.worker.keeper = self.keeper

    def forever(self, seen: sources.Snapshot, wait: Callable[[float], object] = time.sleep) -> int:
        """Rounds until Ctrl-C; returns the last round's exit code.

        `seen` is how the sources were before they were built: what is saved during a round begins the next.
        """
        try:
            self._round(time.time())
            while True:
                wait(LOOK_S)
                now = sources.snapshot(self.folders)
                if paths := sources.changed(seen, now):
                    seen = now
                    self._saved(paths)
        except KeyboardInterrupt:
            self.progress.say("watch: ended")
            return run_exit_code(self.verdicts)
        finally:
            self.worker.leave()
            self.keeper.end()

    def _saved(self, paths: Sequence[Path]) -> None:
        saved_at = sources.saved_at(paths, time.time())
        self.progress.say(f"changed: {_names(paths)}")
        began = time.monotonic()
        if problem := self.build():
            for line in problem.splitlines():
                self.progress.say(line)
            self.progress.say("not built; waiting for the next save")
            return
        built_s = time.monotonic() - began
        try:
            told = self._update()
        except HarnessError as error:
            # A guest that cannot be updated is replaced: the round boots another.
            self.progress.say(error.message)
            self.keeper.end()
            told = "a new machine"
        self.progress.say(f"built in {built_s:.1f} s; {told}")
        self._round(saved_at)

    def _update(self) -> str:
        machine = self.keeper.machine
        if not isinstance(machine, StandingMachine):
            return "no machine stands"
        began = time.monotonic()
        found = machine.update()
        if not found:
            return "nothing that the guest has changed"
        spent_s = time.monotonic() - began
        what = f"{len(found.changed)} files, {found.size >> 10} KiB"
        return f"updated in {spent_s:.1f} s ({what}{', server restarted' if found.touches_python else ''})"

    def _round(self, saved_at: float) -> None:
        self.rounds += 1
        found: list[TestResult] = []
        for cell in self.run.plan.cells:
            self.worker.enter(cell)
            for test in cell.tests:
                result = self.worker.run(test)
                found.append(result)
                self.progress.ended(cell.id, result)
            report = self.worker._run.report if self.worker._run else None
            load_s = report.phases.load_s if report else 0.0
            self._tell(found, load_s, time.time() - saved_at)
            self.worker.leave()
        self.verdicts = [result.verdict for result in found]

    def _tell(self, found: Sequence[TestResult], load_s: float, seconds: float) -> None:
        counts = ", ".join(f"{count} {name}" for name, count in Counter(one.verdict for one in found).items())
        tests_s = sum(result.duration_s for result in found)
        since = "since the start" if self.rounds == 1 else "from save to verdict"
        spent = f"load {load_s:.1f} s, tests {tests_s:.1f} s"
        self.progress.say(f"round {self.rounds}: {counts}; {seconds:.1f} s {since} ({spent})")


def _names(paths: Sequence[Path]) -> str:
    names = [
        str(path.relative_to(supply.ROOT)) if path.is_relative_to(supply.ROOT) else str(path)
        for path in paths
    ]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
