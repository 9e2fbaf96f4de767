"""Runs one cell: boot, deploy, load, tests, close; every error becomes a verdict.

Only infrastructure failures are tried again, on another machine. A failure of the agent or the kernel stands.
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
from harness.guest import sysctl
from harness.guest.selftest import Loaded
from harness.host import deadlines
from harness.host.progress import Phase, Step
from harness.plan import cost
from harness.plan.cells import Cell
from harness.results.model import Attempt, CellReport, TestResult
from harness.results.verdict import Verdict
from harness.run import judge
from harness.run.judge import REASON_LIMIT, Allowed, as_result, clean, problem
from harness.run.machines import Machine, Selftest
from harness.run.slot import Slot
from harness.text import one_line

MAX_MACHINES = 3  # per cell: after that many infrastructure failures it is given up
MAX_AGENTS = 3  # per cell: after that many early ends of the agent it is given up
ATTACH = "attach.txt"  # in the cell's folder: the command that enters a kept machine
LOG_BYTES = 32 << 20  # per cell, of the guest's answers; a line marks each one that is left out
BACKOFF_S = 1.0  # before the second machine; doubled for each further one
# States of a program type that does not work.
CANNOT = ("load-fail", "attach-fail", "silent", "lossy")


# Causes that leave the guest alive, so that the end of the cell can still be checked. An expected failure or
# a skip must not hide leftovers.
CHECKED = (Verdict.SKIP, Verdict.FAIL)
_visits = itertools.count(1)


def _nothing_allowed(_splat: object) -> str:
    return ""


def _nothing_promised(_kind: str) -> str:
    return ""


def _nothing_contradicted(_result: TestResult, _report: CellReport) -> str:
    return ""


class CellRun:
    """One cell: call `open`, `test` for each planned test, and `close`; none of them raises HarnessError.

    `allowed` takes the report so far and returns the function that decides which kernel warnings are allowed.
    `promised` returns the configuration options by which the kernel promises a program type, "" if none.
    `contradicted` returns what the kernel promises and a pass or a skip contradicts, "" if nothing.
    """

    def __init__(
        self,
        cell: Cell,
        slot: Slot,
        folder: Path,
        allowed: Callable[[CellReport], Allowed] = lambda _report: _nothing_allowed,
        promised: Callable[[str], str] = _nothing_promised,
        contradicted: Callable[[TestResult, CellReport], str] = _nothing_contradicted,
        host: str = "",
    ) -> None:
        self.cell = cell
        self.slot = slot
        self.folder = folder
        self.report = CellReport(id=cell.id, visit=f"{os.getpid()}-{next(_visits)}", host=host)
        self._allowed = allowed
        self._promised = promised
        self._contradicted = contradicted
        self._selftest: Selftest | None = None
        self._ended_in = ""  # the test in which the machine was lost
        self._spare_machines = MAX_MACHINES - 1
        self._spare_agents = MAX_AGENTS - 1
        self._reported: set[str] = set()  # lines of the kernel's complaints that are in the result of a test

    def open(self) -> None:
        """Boot, deploy and load."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._open()
        if self._lost:
            self._recover()

    def test(self, name: str) -> TestResult:
        """Run one test, again on another machine if this one is lost; if it cannot run, return the cause."""
        if cause := self.report.cause:
            return _without_running(name, cause, self._ended_in)
        result = self._attempt(name)
        while self._lost and self._recover():
            result = judge.combined(result, self._attempt(name))
        return result

    def ran(self, name: str) -> bool:
        """Return whether a test that has a result ran; otherwise its result is why the cell was given up."""
        return self.report.cause is None or self._ended_in == name

    def again(self, first: TestResult) -> TestResult:
        """Run a failed test again to distinguish FLAKY from FAIL; return `first` if it cannot run again."""
        if self.report.cause or first.verdict is not Verdict.FAIL or self.slot.pace.left() <= 0:
            return first
        return judge.combined(first, self._attempt(first.name))

    def close(self, *, keep: bool = False) -> CellReport:
        """End the agent, search for leftovers, collect evidence, and destroy a machine that failed.

        Only the last line of this function closes the cell; a cell whose report is not `closed` never passes.
        With `keep` the machine is left running for the user.
        """
        began = time.monotonic()
        served = self._end_agent() or self._spare_agents < MAX_AGENTS - 1
        if machine := self.slot.machine:
            self._check_sysctl(machine)
            if self._checkable(served=served):
                self._search(machine)
            machine.collect(self.folder)
            self._listen(machine, to_its_end=self._checkable(served=served))
        self._count_complaints()
        if keep:
            self._keep()
        cause = self.report.cause
        if cause and cause.verdict is not Verdict.SKIP:
            self.slot.discard()
        spent = self.report.phases.close_s + time.monotonic() - began
        phases = self.report.phases.model_copy(update={"close_s": spent})
        self._update(closed=served or cause is not None, phases=phases)
        return self.report

    def _keep(self) -> None:
        """Leave the machine running; write the command that enters it beside the evidence."""
        try:
            line = self.slot.keep(self.cell.id)
        except InfrastructureError as error:
            line = f"# not kept: {error.message}"
        if line:
            (self.folder / ATTACH).write_text(f"{line}\n", encoding="utf-8")

    def abandon(self) -> CellReport:
        """Destroy the machine at once and collect the evidence on this host; the cell stays unclosed."""
        machine = self.slot.machine
        with contextlib.suppress(HarnessError):
            self._hear(self.slot.news())
        self.slot.discard()
        if machine:
            machine.collect(self.folder)
        self._count_complaints()
        return self.report

    def _open(self) -> None:
        try:
            self.slot.enter(self.cell)
        except HarnessError as error:
            self._spare_machines = 0 if isinstance(error, MissingError) else self._spare_machines
            self._fail(error, booting=True)
            return
        finally:
            uname = self.slot.machine.uname if self.slot.machine else ""
            self._update(phases=self.slot.phases, slowness=self.slot.pace.slowness, uname=uname)
            self._note_machine()
        try:
            self._check_cmdline()
            self._set_sysctl()
            self._load()
        except HarnessError as error:
            self._keep_detail(error)
            if not (isinstance(error, RefusedError) and self._cannot(error)):
                self._fail(error)

    def _check_cmdline(self) -> None:
        """Raise IncompleteError if the kernel refused words of the cell's command line."""
        machine = self.slot.machine
        if machine and self.cell.cmdline:
            words = refused(machine.console().split(b"\n"), self.cell.cmdline.args)
            if words:
                listed = one_line(" ".join(words))
                raise IncompleteError(f"the kernel refused these words of the cell's command line: {listed}")

    def _set_sysctl(self) -> None:
        """Raise IncompleteError if a value of the cell's sysctl does not hold."""
        if (machine := self.slot.machine) and self.cell.sysctl:
            sysctl.apply(machine.guest, self.cell.sysctl.values, self.slot.pace.within(deadlines.SYSCTL_S))

    def _check_sysctl(self, machine: Machine) -> None:
        """Give up the cell if a value of its sysctl was changed while it ran."""
        if self.cell.sysctl and self.report.cause is None:
            try:
                timeout_s = self.slot.pace.within(deadlines.SYSCTL_S)
                sysctl.check(machine.guest, self.cell.sysctl.values, timeout_s)
            except HarnessError as error:
                self._fail(error)

    def _note_machine(self) -> None:
        """Record the accelerator; remarks on the boot belong to the cell that booted the machine."""
        if machine := self.slot.machine:
            notes = machine.notes if self.report.phases.boot_s else ()
            fresh = tuple(one_line(note, REASON_LIMIT) for note in notes)
            self._update(accelerator=machine.accelerator, notes=(*self.report.notes, *fresh))

    @property
    def _lost(self) -> bool:
        """Whether an infrastructure failure ended the cell."""
        return self.report.cause is not None and self.report.cause.verdict is Verdict.INFRA

    def _recover(self) -> bool:
        """Get another machine with the agent loaded; return False if no tries or no time are left."""
        while self._lost and self._spare_machines:
            pause_s = BACKOFF_S * 2 ** (MAX_MACHINES - 1 - self._spare_machines)
            if self.slot.pace.left() <= pause_s:
                return False
            self._spare_machines -= 1
            self._give_up()
            self.slot.pause(pause_s)
            self._open()
        return self.report.cause is None

    def _give_up(self) -> None:
        """Discard a lost machine; keep its evidence in a folder of its own, and its kernel's complaints."""
        self._end_agent()
        if machine := self.slot.machine:
            evidence = self.folder / f"attempt-{len(self.report.attempts) + 1}"
            evidence.mkdir(exist_ok=True)
            machine.collect(evidence)
            self._listen(machine)
        self.slot.discard()
        assert self.report.cause
        self._update(attempts=(*self.report.attempts, self.report.cause), cause=None)

    def _end_agent(self) -> bool:
        """Return whether an agent ran; its abnormal end is the cause of a cell with none, or with SKIP."""
        selftest, self._selftest = self._selftest, None
        wrong = selftest.close() if selftest else None
        if wrong and (self.report.cause is None or self.report.cause.verdict is Verdict.SKIP):
            self._fail(wrong)
        if selftest and selftest.hooks:
            with contextlib.suppress(RefusedError):
                self._update(**_checked({"hooks": selftest.hooks}))  # the final counts of the kernel
        return selftest is not None

    def _load(self) -> None:
        machine = self.slot.machine
        assert machine
        self.slot.progress(Step(Phase.LOAD, machine=self.cell.machine, cell=self.cell.id))
        self.slot.listen()
        began = time.monotonic()
        try:
            loaded = self._loaded()
        finally:
            phases = self.report.phases.model_copy(update={"load_s": time.monotonic() - began})
            self._update(phases=phases)
        self._log({"load": {"seconds": loaded.seconds, "coverage": loaded.coverage}})
        self._update(**_facts(loaded))

    def _loaded(self) -> Loaded:
        pace = self.slot.pace
        self._selftest = self.slot.serve(self.cell, self.folder, pace.within(deadlines.LOAD_S))
        return self._selftest.load(self.cell, pace.within(self._load_deadline_s))

    @property
    def _load_deadline_s(self) -> float:
        return deadlines.LOAD_S + (deadlines.COMPILE_S if self.cell.compiles else 0.0)

    def _cannot(self, error: RefusedError) -> bool:
        """Return whether a forced hook set was refused because this kernel was observed not to support it.

        The refusal alone is no proof: the agent loads with `auto` and reports what it observed. The cause is
        SKIP, or FAIL if the kernel's configuration promises the program type. That programs do not compile
        is no fact of a kernel, so `bcc` is judged by its kprobes.
        """
        kind = self.cell.kind
        if self.cell.hookset == "auto" or self.cell.suite or not self._selftest:
            return False
        try:
            update = {"hookset": "auto", "btf": "kernel" if self.cell.btf == "none" else self.cell.btf}
            free = self.cell.model_copy(update=update)
            facts = _facts(self._selftest.load(free, self.slot.pace.within(self._load_deadline_s)))
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
        """Return whether only the agent ended, and another one may be loaded for the next tests."""
        if (
            not isinstance(error, ProductError)
            or attempt.verdict is not Verdict.FAIL
            or not self._spare_agents
        ):
            return False
        self._spare_agents -= 1
        selftest, self._selftest = self._selftest, None
        assert selftest
        selftest.close()
        return True

    def _load_another(self) -> None:
        """Load the agent again after an early end."""
        try:
            self._load()
        except HarnessError as error:
            self._fail(error)

    def _ask(self, name: str) -> TestResult:
        assert self._selftest
        suite = self.cell.suite
        usual_s = suite.timeout if suite else deadlines.TEST_S * (1 + cost.usual_s(name))
        ran = self._selftest.test(name, self.slot.pace.within(usual_s))
        self._log({"test": name, "verdict": ran.verdict, "log": ran.log})
        result = judge.result_of(name, ran)
        told = result.verdict in (Verdict.PASS, Verdict.SKIP)
        if told and (promise := self._contradicted(result, self.report)):
            result = judge.demoted(result, Attempt(verdict=Verdict.FAIL, reason=promise))
        result = judge.with_log(result, ran.log, self._allowed(self.report))
        self._reported.update(splat.line for splat in result.splats)
        return result

    def _checkable(self, *, served: bool) -> bool:
        """Whether the end of the cell can be checked: the guest is alive, as far as is known."""
        return self.report.cause.verdict in CHECKED if self.report.cause else served

    def _search(self, machine: Machine) -> None:
        """Search for leftovers. They may still cause warnings, so the console is read later."""
        try:
            left = self.slot.leftovers(self.slot.pace.within(deadlines.LEFTOVERS_S))
        except HarnessError as error:
            unseen = self._unseen(error, machine, "the search for leftovers of the agent")
            self._update(cause=judge.joined(unseen, self.report.cause))
            return
        if left:
            reason = one_line(f"left behind: {', '.join(left)}", REASON_LIMIT)
            found = Attempt(verdict=Verdict.FAIL, reason=reason)
            self._update(cause=judge.joined(found, self.report.cause))

    def _listen(self, machine: Machine, *, to_its_end: bool = False) -> None:
        """Read what the kernel has printed; the console of a guest that is not alive is read as it is."""
        if self.report.cause and self.report.cause.verdict is Verdict.CRASH:
            return  # the cause is what the kernel complained of last
        try:
            lines = self.slot.news(self.slot.pace.within(deadlines.CONSOLE_S) if to_its_end else 0.0)
        except HarnessError as error:
            unseen = self._unseen(error, machine, "reading the console to its end")
            self._update(cause=judge.joined(unseen, self.report.cause))
            if to_its_end:
                self._listen(machine)
        else:
            self._hear(lines)

    def _hear(self, lines: Sequence[bytes]) -> None:
        """Add the complaints in lines of the console. Those that a test reported belong to it alone."""
        new = [one for one in scan(lines).found if one_line(one.line, REASON_LIMIT) not in self._reported]
        splats = judge.as_splats(new, self._allowed(self.report))
        self._update(splats=(*self.report.splats, *splats))

    def _count_complaints(self) -> None:
        """Let a complaint on any machine of the cell count, unless it is allowed."""
        self._update(cause=judge.joined(judge.splat_of(self.report.splats), self.report.cause))

    def _answers(self, machine: Machine) -> bool:
        return machine.answers(deadlines.PING_S * self.slot.pace.stretch())

    def _unseen(self, error: HarnessError, machine: Machine, what: str) -> Attempt:
        """Return FAIL for a check that could not be made, unless the machine's death explains it."""
        found = self._judge(error, 0.0)
        reason = f"{what} failed: {found.reason}"
        alive = found.verdict is Verdict.INFRA and self._answers(machine)
        verdict = Verdict.FAIL if alive else found.verdict
        return found.model_copy(update={"verdict": verdict, "reason": one_line(reason, REASON_LIMIT)})

    def _fail(self, error: HarnessError, *, booting: bool = False) -> None:
        self._update(cause=self._judge(error, 0.0, booting=booting))

    def _judge(self, error: HarnessError, seconds: float, *, booting: bool = False) -> Attempt:
        # A refusal proves that the guest is alive. For any other error, check whether the machine died. A
        # guest that still runs a command is alive, and then `death`, which may wait, is not called.
        machine = None if isinstance(error, RefusedError) else self.slot.machine
        answers = bool(machine and not booting and self._answers(machine))
        death = machine.death() if machine and not answers else None
        if self.slot.pace.left() <= 0 and (booting or not (death and death.blames_guest)):
            return Attempt(verdict=Verdict.NOT_RUN, reason=self.slot.pace.why, duration_s=seconds)
        restored = machine is not None and machine.start == "warm"
        attempt = judge.classify(error, death, booting=booting, answers=answers, restored=restored)
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
    """Return facts that the agent reported, cleaned. Raises RefusedError if they are malformed."""
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
