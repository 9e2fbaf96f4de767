"""`harness run --watch`: one machine stays up; each save builds, updates the guest and tests again."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import ConfigError, HarnessError
from harness.kernels import sources as kernels
from harness.lab import supplies
from harness.plan import suites
from harness.plan.cells import Cell
from harness.plan.plan import events_of
from harness.results.model import TestResult
from harness.results.verdict import Verdict, run_exit_code
from harness.run.job import Job
from harness.run.pytest.worker import Worker
from harness.run.run import Run
from harness.run.view import View
from harness.text import counted
from harness.watch import sources
from harness.watch.build import MakeProject, NoProject, Project
from harness.watch.slot import StandingSlot

FOLDERS = (supplies.ROOT / "bpf", supplies.ROOT / "agent")
POLL_S = 0.1
PLANNING = ("agent/hooks/*.py", "agent/kernel/*.py")  # decide which programs are loaded

Spent = dict[str, float]  # seconds by phase, in the order of their start


@dataclass
class Watch:
    """Repeats a run on one machine, which the first round boots.

    It watches the agent's sources, if the plan has cells of the agent, the files of suites, and a kernel of
    the user.
    """

    run: Run
    progress: View
    project: Project
    folders: Sequence[Path] = FOLDERS
    rounds: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.run.plan.machines()) > 1:
            names = ", ".join(self.run.plan.machines())
            raise ConfigError(
                f"--watch: more than one machine matches: {names}", hint="choose one with --kernel NAME"
            )
        cells = tuple(
            cell.model_copy(update={"events": events_of(cell.tests)}) for cell in self.run.plan.cells
        )
        self.run.plan = self.run.plan.model_copy(update={"cells": cells})
        self.worker = Worker(_without_trials(self.run), self.run.bench)
        self.slot = StandingSlot(self.worker._machine, self.project.files, self.worker.slot.pace)
        self.worker.slot = self.slot
        self._programs: set[str] = set()  # that this round loaded
        self._any = False  # whether this round may have loaded others

    def forever(self, seen: sources.Snapshot, wait: Callable[[float], object] = time.sleep) -> int:
        """Run rounds until Ctrl-C; return the last round's exit code.

        `seen` is the snapshot before the build, so that a save during a round starts the next one.
        """
        try:
            self._round("start", time.time(), {})
            while True:
                wait(POLL_S)
                now = self.look()
                if paths := sources.changed(seen, now):
                    seen = self._settled(now, wait)
                    self._saved(paths)
        except KeyboardInterrupt:
            self.progress("watch: ended")
            return run_exit_code(self.verdicts)
        finally:
            self.worker.leave()
            self.slot.end()

    def look(self) -> sources.Snapshot:
        """Return a snapshot of all watched files."""
        return look(self.run, self.folders)

    def _settled(self, now: sources.Snapshot, wait: Callable[[float], object]) -> sources.Snapshot:
        """Wait until files of suites and kernels stop changing, because a linker writes them in steps."""
        while self._has_suites or _kernel_files(self.run):
            wait(POLL_S)
            before, now = now, self.look()
            if before == now:
                break
        return now

    @property
    def _has_suites(self) -> bool:
        return any(cell.suite for cell in self.run.plan.cells)

    def _missing(self) -> str:
        """Return the error for a suite's file that does not exist, as during its build; "" if none."""
        try:
            suites.check(self.run.plan, self.run.base)
        except ConfigError as error:
            return error.message
        return ""

    def _saved(self, paths: Sequence[Path]) -> None:
        now = time.time()
        saved_at = sources.saved_at(paths, now)
        self.progress(f"changed: {_names(paths)}")
        spent = {"notice": now - saved_at}
        if any(path.match(glob) for path in paths for glob in PLANNING):
            self.project.needs(())
        if not set(paths).isdisjoint(_kernel_files(self.run)):
            with _timed(spent, "kernel"):
                if problem := self._take_kernel():
                    self._say_all(problem, "no kernel to boot; waiting for its next build")
                    return
        with _timed(spent, "build"):
            problem = self._missing() or self.project.build()
        if problem:
            self._say_all(problem, "not built; waiting for the next save")
            return
        with _timed(spent, "push"):
            summary = self._update()
        self.progress(summary)
        self._round("saved", saved_at, spent)

    def _take_kernel(self) -> str:
        """Give up the machine of the old kernel, and take the new one; return the error, "" without one."""
        self.slot.end()
        try:
            self.run.renew(self.progress)
        except HarnessError as error:
            return error.message
        self.worker.job = _without_trials(self.run)
        return ""

    def _update(self) -> str:
        machine = self.slot.machine
        if machine is None:
            return "no machine is up"
        try:
            found = self.slot.update(machine)
        except HarnessError as error:
            # The round boots another machine instead of a guest that cannot be updated.
            self.slot.end()
            return f"{error.message}; taking a new machine"
        if not found:
            return "sending the suite's files" if self._has_suites else "no file of the guest changed"
        how = "" if self.slot.serves else ", with a new server"
        return f"sent {counted(len(found.changed), 'file')}, {found.size >> 10} KiB{how}"

    def _round(self, since: str, began: float, spent: Spent) -> None:
        """Run all tests and print the time since `began`, in seconds since the epoch."""
        self.rounds += 1
        self._programs, self._any = set(), False
        found: list[TestResult] = []
        for cell in self.run.plan.cells:
            with _timed(spent, "load" if self.slot.machine else "boot and load"):
                self.worker.enter(cell)
            self._remark()
            self._note_programs(cell)
            with _timed(spent, "tests"):
                for test in cell.tests:
                    found.append(self.worker.run(test))
                    self.progress.ended(cell.id, found[-1])
            self._print_round(found, f"{since} → verdict {time.time() - began:.1f} s", spent)
            self.worker.leave()
        self.verdicts = [result.verdict for result in found]
        self._settle()

    def _remark(self) -> None:
        """Print the remarks on the machine's boot."""
        for note in self.worker._run.report.notes if self.worker._run else ():
            self.progress(note)

    def _note_programs(self, cell: Cell) -> None:
        """Record the loaded programs: a forced hook set that loaded will load the same ones again."""
        report = self.worker._run.report if self.worker._run else None
        self._any |= cell.hookset == "auto" or report is None or report.cause is not None
        self._programs |= {hook.program for hook in report.hooks if hook.program} if report else set()

    def _print_round(self, found: Sequence[TestResult], seconds: str, spent: Spent) -> None:
        counts = ", ".join(
            f"{count} {name}" for name, count in Counter(result.verdict for result in found).items()
        )
        phases = ", ".join(f"{name} {spent_s:.1f}" for name, spent_s in spent.items())
        self.progress(f"round {self.rounds}: {counts}; {seconds} ({phases})")

    def _settle(self) -> None:
        """Build what this round left out, and prepare the machine for the next one."""
        if problem := self.project.build_rest():
            self._say_all(problem, "a part that was not loaded does not build")
        self.project.needs(() if self._any else self._programs)
        if machine := self.slot.machine:
            try:
                if not self.project.build():
                    self.slot.update(machine)
                problems = self.slot.rest()
            except HarnessError as error:
                problems = [error]
                self.slot.end()
            for problem_of_machine in problems:
                self.progress(problem_of_machine.message)
        self.progress("ready for the next save")

    def _say_all(self, problem: str, meaning: str) -> None:
        for line in (*problem.splitlines(), meaning):
            self.progress(line)


def look(run: Run, folders: Sequence[Path] = FOLDERS) -> sources.Snapshot:
    """Return a snapshot of the files that the cells of `run` test."""
    planned = {cell.suite.name: cell.suite for cell in run.plan.cells if cell.suite}
    own = sources.snapshot([] if _suites_alone(run) else folders)
    named = [path for suite in planned.values() for path in suites.existing(suite, run.base)]
    named += [path for path in _kernel_files(run) if path.is_file()]
    return {**own, **sources.snapshot(named, suffixes=())}


def _kernel_files(run: Run) -> set[Path]:
    return {path for cell in run.plan.cells for path in kernels.watched(cell.kernel, cell.arch)}


def _without_trials(run: Run) -> Job:
    """The job of a run in which a new kernel need not boot more than once: its user is there to see it."""
    job = run.job()
    return job.model_copy(update={"supplies": job.supplies.model_copy(update={"unproven": {}})})


def project_of(run: Run) -> Project:
    """Return the project to build before the cells of `run` are tested."""
    if _suites_alone(run):
        return NoProject()
    locked = any(cell.cmdline and "lockdown=" in cell.cmdline.args for cell in run.plan.cells)
    return MakeProject(arch=run.plan.cells[0].arch, casts=locked)


def _suites_alone(run: Run) -> bool:
    return all(cell.suite for cell in run.plan.cells)


@contextlib.contextmanager
def _timed(spent: Spent, phase: str) -> Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        spent[phase] = spent.get(phase, 0.0) + time.monotonic() - began


def _names(paths: Sequence[Path]) -> str:
    names = [
        str(path.relative_to(supplies.ROOT)) if path.is_relative_to(supplies.ROOT) else str(path)
        for path in paths
    ]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
