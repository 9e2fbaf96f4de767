"""The life of a cell: boot, deploy, load, tests, teardown; whatever goes wrong becomes a verdict.

Only the machinery's failures are tried again, on another machine; what the agent or the kernel did stands.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.selftest import catalogue
from agent.selftest.protocol import Loaded
from harness.console.cmdline import refused
from harness.console.complaints import scan
from harness.errors import (
    HarnessError,
    IncompleteError,
    InfrastructureError,
    MissingError,
    ProductError,
    RefusedError,
)
from harness.host.progress import Phase, Step
from harness.plan.cells import Cell
from harness.results.model import Attempt, CellReport, TestResult
from harness.results.verdict import Verdict
from harness.run import judge
from harness.run.judge import REASON_LIMIT, Allowed, as_result, clean, problem
from harness.run.machines import Machine, Selftest
from harness.run.slot import Keeper
from harness.text import one_line

LOAD_DEADLINE_S = 90.0
COMPILE_S = 300.0  # what a load may take more that begins with a compiler
TEST_DEADLINE_S = 30.0  # and as much again for each second that the test's cost names
PING_S = 10.0
LEAVE_S = 3.0  # for what an agent that has ended leaves behind to go by itself
TRIES = 3  # machines that one cell may lose to the machinery before it is given up
AGENTS = 3  # that one cell may lose by an early end before it is given up
ATTACH = "attach.txt"  # in the cell's folder: the line that gets into a machine that was kept
LOG_BYTES = 32 << 20  # of what a guest answered, kept of one cell; what is beyond is left out, and said so
BACKOFF_S = 1.0  # before the second; twice as long before each further one
CANNOT = ("load-fail", "attach-fail", "silent")  # observed states of a hook type that a kernel does not have


# Causes with which the guest is alive, so that the end of the cell can still be checked. An expected failure
# and a skip must not hide what was left behind.
CHECKED = (Verdict.SKIP, Verdict.FAIL)
_visits = itertools.count(1)


def _nothing_allowed(_splat: object) -> str:
    return ""


def _nothing_promised(_kind: str) -> str:
    return ""


class CellRun:
    """One cell being run: `open`, `test` for each planned test, `close`; none raises HarnessError.

    `allowed` says why a complaint of the kernel is allowed in a cell of which so much was observed,
    `promised` by what its kernel's configuration promises a hook type ("" if it does not).
    """

    def __init__(
        self,
        cell: Cell,
        keeper: Keeper,
        folder: Path,
        allowed: Callable[[CellReport], Allowed] = lambda _report: _nothing_allowed,
        promised: Callable[[str], str] = _nothing_promised,
    ) -> None:
        self.cell = cell
        self.keeper = keeper
        self.folder = folder
        self.report = CellReport(id=cell.id, visit=f"{os.getpid()}-{next(_visits)}")
        self._allowed = allowed
        self._promised = promised
        self._selftest: Selftest | None = None
        self._ended_in = ""  # the test that took the machine with it
        self._spare = TRIES - 1
        self._agents = AGENTS - 1
        self._quiet = 0  # bytes of the console that were there before the agent was

    def open(self) -> None:
        """Boot, deploy and load."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open()
        if self._lost:
            self._recovered()

    def test(self, name: str) -> TestResult:
        """Run one test, or say why it could not run; once more on another machine where this one was lost."""
        if cause := self.report.cause:
            return _without_running(name, cause, self._ended_in)
        result = self._attempt(name)
        while self._lost and self._recovered():
            result = judge.combined(result, self._attempt(name))
        return result

    def again(self, first: TestResult) -> TestResult:
        """Run what failed once more, to tell FLAKY from FAIL; `first` where that cannot be told any more."""
        if self.report.cause or first.verdict is not Verdict.FAIL or self.keeper.pace.left() <= 0:
            return first
        return judge.combined(first, self._attempt(first.name))

    def close(self, *, keep: bool = False) -> CellReport:
        """End the agent, check what it left, keep the evidence, and destroy a machine that failed.

        Only the end of this function closes the cell: without `closed` in its report no cell passes. With
        `keep` the machine is left running for the user.
        """
        served = self._end_agent() or self._agents < AGENTS - 1
        cause = self.report.cause
        if machine := self.keeper.machine:
            if cause.verdict in CHECKED if cause else served:
                self._search(machine)
            machine.collect(self.folder)
        if keep:
            self._keep()
        cause = self.report.cause
        if cause and cause.verdict is not Verdict.SKIP:
            self.keeper.discard()
        self._update(closed=served or cause is not None)
        return self.report

    def _keep(self) -> None:
        """Leave the machine to a person, and beside the evidence the line that gets in."""
        try:
            line = self.keeper.leave(self.cell.id)
        except InfrastructureError as error:
            line = f"# not kept: {error.message}"
        if line:
            (self.folder / ATTACH).write_text(f"{line}\n", encoding="utf-8")

    def abandon(self) -> CellReport:
        """Destroy the machine at once and keep the evidence that is on this host; the cell is not closed."""
        machine = self.keeper.machine
        self.keeper.discard()
        if machine:
            machine.collect(self.folder)
        return self.report

    def _open(self) -> None:
        try:
            self.keeper.enter(self.cell)
        except HarnessError as error:
            self._spare = 0 if isinstance(error, MissingError) else self._spare
            self._fail(error, booting=True)
            return
        finally:
            uname = self.keeper.machine.uname if self.keeper.machine else ""
            self._update(phases=self.keeper.phases, slowness=self.keeper.pace.slowness, uname=uname)
            self._note_machine()
        try:
            self._check_cmdline()
            self._load()
        except HarnessError as error:
            self._keep_detail(error)
            if not (isinstance(error, RefusedError) and self._cannot(error)):
                self._fail(error)

    def _check_cmdline(self) -> None:
        """Raise IncompleteError if the kernel refused words of the cell's command line."""
        machine = self.keeper.machine
        if machine and self.cell.cmdline:
            words = refused(machine.console().split(b"\n"), self.cell.cmdline.args)
            if words:
                listed = one_line(" ".join(words))
                raise IncompleteError(f"the kernel refused these words of the cell's command line: {listed}")

    def _note_machine(self) -> None:
        """How the machine runs; what there is to say about its boot belongs to the cell that booted it."""
        if machine := self.keeper.machine:
            notes = machine.notes if self.report.phases.boot_s else ()
            fresh = tuple(one_line(note, REASON_LIMIT) for note in notes)
            self._update(accelerator=machine.accelerator, notes=(*self.report.notes, *fresh))

    @property
    def _lost(self) -> bool:
        """Whether the machinery, and nothing else, ended the cell."""
        return self.report.cause is not None and self.report.cause.verdict is Verdict.INFRA

    def _recovered(self) -> bool:
        """Get another machine with the agent loaded; False when there are no tries or no time left."""
        while self._lost and self._spare:
            pause_s = BACKOFF_S * 2 ** (TRIES - 1 - self._spare)
            if self.keeper.pace.left() <= pause_s:
                return False
            self._spare -= 1
            self._give_up()
            self.keeper.pause(pause_s)
            self._open()
        return self.report.cause is None

    def _give_up(self) -> None:
        """Leave a machine that was lost, with what is known of it beside the next one's."""
        assert self.report.cause
        attempts = (*self.report.attempts, self.report.cause)
        self._end_agent()
        if self.keeper.machine:
            evidence = self.folder / f"attempt-{len(attempts)}"
            evidence.mkdir(exist_ok=True)
            self.keeper.machine.collect(evidence)
        self.keeper.discard()
        self._update(attempts=attempts, cause=None)

    def _end_agent(self) -> bool:
        """Return whether there was one; a wrong end is the cause of a cell that has none, or only a skip."""
        selftest, self._selftest = self._selftest, None
        wrong = selftest.close() if selftest else None
        if wrong and (self.report.cause is None or self.report.cause.verdict is Verdict.SKIP):
            self._fail(wrong)
        if selftest and selftest.hooks:
            self._count(selftest.hooks)
        return selftest is not None

    def _count(self, hooks: Sequence[Any]) -> None:
        """What the kernel counted of each hook until the end."""
        with contextlib.suppress(RefusedError):
            self._update(**_checked({"hooks": hooks}))

    def _load(self) -> None:
        machine = self.keeper.machine
        assert machine
        self.keeper.progress(Step(Phase.LOAD, machine=self.cell.machine, cell=self.cell.id))
        self._quiet = len(machine.console())
        began = time.monotonic()
        try:
            loaded = self._loaded(machine)
        finally:
            phases = self.report.phases.model_copy(update={"load_s": time.monotonic() - began})
            self._update(phases=phases)
        self._log({"load": {"seconds": loaded.seconds, "coverage": loaded.coverage}})
        self._update(**_facts(loaded))

    def _loaded(self, machine: Machine) -> Loaded:
        pace = self.keeper.pace
        if self.cell.suite:
            self._selftest = machine.command(self.cell, self.folder / "command.log")
        else:
            self._selftest = machine.selftest(self.folder / "agent.log", pace.within(LOAD_DEADLINE_S))
        return self._selftest.load(self.cell, pace.within(self._load_deadline_s))

    @property
    def _load_deadline_s(self) -> float:
        return LOAD_DEADLINE_S + (COMPILE_S if self.cell.compiles else 0.0)

    def _cannot(self, error: RefusedError) -> bool:
        """Whether a forced set was refused because this kernel was seen not to have it: that is a SKIP.

        The agent's word is not enough: it loads what it can have, and says what it observed. And a kernel
        that promises what it does not have is a failure.
        """
        kind = self.cell.hookset.replace("-", "_")
        if self.cell.hookset == "auto" or self.cell.suite or not self._selftest:
            return False
        try:
            update = {"hookset": "auto", "btf": "kernel" if self.cell.btf == "none" else self.cell.btf}
            free = self.cell.model_copy(update=update)
            facts = _facts(self._selftest.load(free, self.keeper.pace.within(self._load_deadline_s)))
        except HarnessError:
            return False
        state = facts["capabilities"].get(kind)
        if state not in CANNOT:
            return False
        reason, verdict = f"{kind} is {state} on this kernel: {error.message}", Verdict.SKIP
        if options := self._promised(kind):
            reason, verdict = f"its configuration promises {kind} ({options}), and {reason}", Verdict.FAIL
        cause = Attempt(verdict=verdict, reason=one_line(reason, REASON_LIMIT))
        self._update(capabilities=facts["capabilities"], cause=cause)
        return True

    def _attempt(self, name: str) -> TestResult:
        if self._selftest is None:
            self._load_another()
        if cause := self.report.cause:
            return _without_running(name, cause, "")
        began = time.monotonic()
        try:
            return self._ask(name)
        except HarnessError as error:
            self._keep_detail(error)
            attempt = self._judge(error, time.monotonic() - began)
            if not isinstance(error, RefusedError) and not self._only_ended(error, attempt):
                self._ended_in = name
                self._update(cause=attempt)
            return as_result(name, attempt)
        finally:
            spent = self.report.phases.tests_s + time.monotonic() - began
            self._update(phases=self.report.phases.model_copy(update={"tests_s": spent}))

    def _only_ended(self, error: HarnessError, attempt: Attempt) -> bool:
        """Whether nothing but the agent has ended, and another may yet be loaded for the tests to come."""
        if not isinstance(error, ProductError) or attempt.verdict is not Verdict.FAIL or not self._agents:
            return False
        self._agents -= 1
        selftest, self._selftest = self._selftest, None
        assert selftest
        selftest.close()
        return True

    def _load_another(self) -> None:
        """In place of one that ended; what it said is kept."""
        with contextlib.suppress(FileNotFoundError):
            (self.folder / "agent.log").replace(self.folder / f"agent-{AGENTS - self._agents - 1}.log")
        try:
            self._load()
        except HarnessError as error:
            self._fail(error)

    def _ask(self, name: str) -> TestResult:
        assert self._selftest
        scenario = catalogue.by_name(name)
        usual_s = TEST_DEADLINE_S * (1 + (scenario.cost if scenario else 1))
        usual_s = self.cell.suite.timeout if self.cell.suite else usual_s
        ran = self._selftest.test(name, self.keeper.pace.within(usual_s))
        self._log({"test": name, "verdict": ran.verdict, "log": ran.log})
        return judge.with_log(judge.result_of(name, ran), ran.log, self._allowed(self.report))

    def _search(self, machine: Machine) -> None:
        """Look for what no test's own log shows: complaints between the tests, and what was left behind."""
        try:
            # Leftovers may still cause complaints: wait for them before the console is read.
            left = machine.leftovers(self.keeper.pace.within(LEAVE_S))
            lines = machine.console()[self._quiet :].split(b"\n")
        except HarnessError as error:
            self._update(cause=judge.joined(self._unseen(error, machine), self.report.cause))
            return
        outside = [found for found in scan(lines).found if not found.test]
        splats = judge.as_splats(outside, self._allowed(self.report))
        cause = judge.splat_of(splats)
        if left:
            reason = one_line(f"left behind: {', '.join(left)}", REASON_LIMIT)
            cause = Attempt(verdict=Verdict.FAIL, reason=reason)
        self._update(splats=splats, cause=judge.joined(cause, self.report.cause))

    def _unseen(self, error: HarnessError, machine: Machine) -> Attempt:
        """A search that could not run is a failure, unless the machine's own end says more."""
        found = self._judge(error, 0.0)
        reason = f"what the agent left behind could not be looked at: {found.reason}"
        alive = found.verdict is Verdict.INFRA and machine.answers(PING_S * self.keeper.pace.stretch())
        verdict = Verdict.FAIL if alive else found.verdict
        return found.model_copy(update={"verdict": verdict, "reason": one_line(reason, REASON_LIMIT)})

    def _fail(self, error: HarnessError, *, booting: bool = False) -> None:
        self._update(cause=self._judge(error, 0.0, booting=booting))

    def _judge(self, error: HarnessError, seconds: float, *, booting: bool = False) -> Attempt:
        # Who refuses is alive; of all else the machine's own end may be the cause, and is asked for. A guest
        # that still runs a command has not ended, and nobody need wait for a watcher to say so.
        machine = None if isinstance(error, RefusedError) else self.keeper.machine
        answers = bool(machine and not booting and machine.answers(PING_S * self.keeper.pace.stretch()))
        death = machine.death() if machine and not answers else None
        if self.keeper.pace.left() <= 0 and (booting or not (death and death.blames_guest)):
            return Attempt(verdict=Verdict.NOT_RUN, reason=self.keeper.pace.why, duration_s=seconds)
        attempt = judge.classify(error, death, booting=booting, answers=answers)
        return attempt.model_copy(update={"duration_s": seconds})

    def _keep_detail(self, error: HarnessError) -> None:
        if isinstance(error, RefusedError) and error.detail:
            (self.folder / "verifier.log").write_text(error.detail, encoding="utf-8", errors="replace")

    def _update(self, **values: Any) -> None:
        self.report = CellReport.model_validate(self.report.model_dump() | _plain(values))

    def _log(self, entry: dict[str, Any]) -> None:
        with (self.folder / "selftest.jsonl").open("a", encoding="utf-8") as file:
            line = json.dumps(clean(entry)) + "\n"
            if file.tell() + len(line) > LOG_BYTES:
                line = json.dumps({"left out": entry.get("test", "load"), "reason": "the log is full"}) + "\n"
            file.write(line)


def _without_running(name: str, cause: Attempt, ended_in: str) -> TestResult:
    if ended_in:
        reason = f"not run: the machine was given up after {cause.verdict} in {ended_in}"
        return TestResult(name=name, verdict=Verdict.NOT_RUN, reason=reason)
    return as_result(name, cause.model_copy(update={"duration_s": 0.0}))


def _facts(loaded: Loaded) -> dict[str, Any]:
    return _checked(
        {
            "capabilities": loaded.capabilities,
            "coverage": loaded.coverage,
            "limits": loaded.limits,
            "hooks": loaded.hooks,
        }
    )


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """What an agent says of itself, as a report may hold it. Raises RefusedError."""
    report: dict[str, Any] = clean(facts)
    try:
        CellReport.model_validate({"id": "", **report})
    except ValidationError as error:
        raise RefusedError(f"malformed answer of the agent: {problem(error)}") from error
    return report


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        key: value.model_dump() if hasattr(value, "model_dump") else value for key, value in values.items()
    }
