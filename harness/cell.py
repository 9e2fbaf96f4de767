"""The life of a cell: boot, deploy, load, tests, teardown; whatever goes wrong becomes a verdict.

A `Keeper` holds one machine at a time for the cells that share it.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.selftest import catalogue
from agent.selftest.protocol import Loaded
from harness.bench import Machine, RefusedError, Selftest
from harness.errors import HarnessError
from harness.expansion import Cell
from harness.judge import as_result, classify, clean, problem, result_of
from harness.results import Attempt, CellReport, Phases, TestResult
from harness.verdict import Verdict

BOOT_DEADLINE_S = 120.0
LOAD_DEADLINE_S = 90.0
TEST_DEADLINE_S = 30.0  # and as much again for each second that the test's cost names


class Keeper:
    """Owns the one machine of a worker: boots it for the first of its cells, destroys it for another."""

    def __init__(self, make: Callable[[Cell], Machine]) -> None:
        self._make = make
        self._key = ""
        self.machine: Machine | None = None
        self.phases = Phases()  # of the last `enter`, also where that failed

    def enter(self, cell: Cell) -> None:
        """See that the machine of `cell` runs and has the agent; raises HarnessError."""
        self.phases = Phases()
        if self.machine is None or self._key != cell.machine:
            self.discard()
            self.machine, self._key = self._make(cell), cell.machine
            with self._timed("boot_s"):
                self.machine.boot(BOOT_DEADLINE_S)
            with self._timed("deploy_s"):
                self.machine.deploy()
        self.phases = self.phases.model_copy(update={"start": self.machine.start})

    def discard(self) -> None:
        """Destroy the machine, if there is one."""
        machine, self.machine, self._key = self.machine, None, ""
        if machine:
            machine.destroy()

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases = self.phases.model_copy(update={phase: time.monotonic() - began})


class CellRun:
    """One cell being run: `open`, `test` for each planned test, `close`; none raises HarnessError."""

    def __init__(self, cell: Cell, keeper: Keeper, folder: Path) -> None:
        self.cell = cell
        self.keeper = keeper
        self.folder = folder
        self.report = CellReport(id=cell.id)
        self._selftest: Selftest | None = None
        self._ended_in = ""  # the test that took the machine with it

    def open(self) -> None:
        """Boot, deploy and load."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.keeper.enter(self.cell)
        except HarnessError as error:
            self._fail(error, booting=True)
            return
        finally:
            self._update(phases=self.keeper.phases)
        try:
            self._load()
        except HarnessError as error:
            self._keep_detail(error)
            self._fail(error)

    def test(self, name: str) -> TestResult:
        """Run one test, or say why it could not run."""
        if cause := self.report.cause:
            return _without_running(name, cause, self._ended_in)
        began = time.monotonic()
        result = self._attempt(name, began)
        spent = self.report.phases.tests_s + time.monotonic() - began
        self._update(phases=self.report.phases.model_copy(update={"tests_s": spent}))
        return result

    def close(self) -> CellReport:
        """End the agent, keep the evidence, and give a machine up that cannot be trusted any more."""
        if self._selftest:
            self._selftest.close()
            self._selftest = None
        if self.keeper.machine:
            self.keeper.machine.collect(self.folder)
        if self.report.cause:
            self.keeper.discard()
        return self.report

    def _load(self) -> None:
        assert self.keeper.machine
        began = time.monotonic()
        self._selftest = self.keeper.machine.selftest(self.folder / "agent.log")
        loaded = self._selftest.load(self.cell, LOAD_DEADLINE_S)
        phases = self.report.phases.model_copy(update={"load_s": time.monotonic() - began})
        self._log({"load": {"seconds": loaded.seconds, "coverage": loaded.coverage}})
        self._update(phases=phases, **_facts(loaded))

    def _attempt(self, name: str, began: float) -> TestResult:
        assert self._selftest
        scenario = catalogue.by_name(name)
        deadline_s = TEST_DEADLINE_S * (1 + (scenario.cost if scenario else 1))
        try:
            ran = self._selftest.test(name, deadline_s)
            self._log({"test": name, "verdict": ran.verdict, "log": ran.log})
            return result_of(name, ran)
        except HarnessError as error:
            self._keep_detail(error)
            attempt = self._judge(error, time.monotonic() - began)
            if not isinstance(error, RefusedError):
                self._ended_in = name
                self._update(cause=attempt)
            return as_result(name, attempt)

    def _fail(self, error: HarnessError, *, booting: bool = False) -> None:
        self._update(cause=self._judge(error, 0.0, booting=booting))

    def _judge(self, error: HarnessError, seconds: float, *, booting: bool = False) -> Attempt:
        # Who refuses is alive; of all else the machine's own end may be the cause, and is asked for.
        machine = None if isinstance(error, RefusedError) else self.keeper.machine
        verdict, reason = classify(error, machine.death() if machine else None, booting=booting)
        return Attempt(verdict=verdict, reason=reason, duration_s=seconds)

    def _keep_detail(self, error: HarnessError) -> None:
        if isinstance(error, RefusedError) and error.detail:
            (self.folder / "verifier.log").write_text(error.detail, encoding="utf-8", errors="replace")

    def _update(self, **values: Any) -> None:
        self.report = CellReport.model_validate(self.report.model_dump() | _plain(values))

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "selftest.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


def _without_running(name: str, cause: Attempt, ended_in: str) -> TestResult:
    if ended_in:
        reason = f"not run: the machine was given up after {cause.verdict} in {ended_in}"
        return TestResult(name=name, verdict=Verdict.NOT_RUN, reason=reason)
    return as_result(name, cause.model_copy(update={"duration_s": 0.0}))


def _facts(loaded: Loaded) -> dict[str, Any]:
    report: dict[str, Any] = clean(
        {"capabilities": loaded.capabilities, "coverage": loaded.coverage, "hooks": loaded.hooks}
    )
    try:
        CellReport.model_validate({"id": "", **report})
    except ValidationError as error:
        raise RefusedError(f"malformed answer to load: {problem(error)}") from error
    return report


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump() if hasattr(value, "model_dump") else value for key, value in values.items()
    }
