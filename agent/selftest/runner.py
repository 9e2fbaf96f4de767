"""Runs scenarios on a loaded agent; whatever one of them does, it ends in a verdict, with its evidence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from agent.events.model import EventType
from agent.hooks import coverage
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.catalogue import Scenario
from agent.selftest.evidence import Evidence
from agent.selftest.kernellog import KernelLog
from agent.selftest.protocol import Ran
from agent.selftest.scenarios import Body, body_of
from agent.selftest.subject import NO_PROCESS, Installer, Opener, Resident, Starter, Subject
from agent.selftest.workload import OverdueError

REFERENCE_S = 0.004  # what `measure_slowness` counts on an idle machine of 2020
ROUNDS = 100_000
STARVED = 60  # times slower: more than an emulated CPU is that gets its share of the host

# Needs of scenarios that a hook set cannot meet where it says this of its own sight.
_LIMITS = {
    "resolved": coverage.ARGUMENTS_ONLY,
    "refusals": coverage.FAILED_LOOKUP,
    "unhidden": coverage.PREEMPTED,
}


class ScenarioTimeoutError(Exception):
    """A scenario did not end in its time."""


def measure_slowness() -> float:
    """How many times slower than an ordinary machine this one is; an emulated CPU comes out at 10 to 40."""
    started = time.perf_counter()
    sum(range(ROUNDS))
    return max(1.0, (time.perf_counter() - started) / REFERENCE_S)


def no_resident(folder: Path, rules: Mapping[str, str], patience_s: float) -> Resident:
    """Where there is no kernel there is no agent to start: `Subject.lacks` keeps scenarios from asking."""
    raise NotImplementedError


class Stage(NamedTuple):
    """What the scenarios of one variant share.

    `starter` starts a generator, `opener` loads another agent for the scenarios that need one of their own,
    `installer` starts one as a process, `where` is the directory in which they make their files.
    """

    subject: Subject
    starter: Starter
    opener: Opener
    slowness: float
    where: Path = Path("/tmp")  # noqa: S108 - folders there get names of their own
    installer: Installer = no_resident

    def patience_s(self, scenario: Scenario) -> float:
        """How long a scenario may take before it is said to hang, in seconds."""
        return (1 + scenario.cost) * min(20.0, 4 + 2 * self.slowness)

    def run(self, scenario: Scenario) -> Ran:
        """Run one scenario to its verdict; what it or the agent does wrong is never raised from here."""
        if missing := lacking(scenario, self.subject):
            return Ran(0, scenario.name, "SKIP", missing)
        started = time.monotonic()
        evidence = Evidence()
        ledger: dict[str, Any] = {}
        unproved = ""
        with KernelLog(scenario.name) as log:
            try:
                with _at_most(self.patience_s(scenario)):
                    ledger, unproved = self._play(scenario, evidence)
            except Exception as error:  # noqa: BLE001 - it is this test's verdict, and the next test's turn
                _note(evidence, error)
        evidence.add("kernel log", log.lines)
        verdict = _verdict(evidence, unproved)
        seconds = round(time.monotonic() - started, 3)
        return Ran(
            0,
            scenario.name,
            verdict,
            evidence.reason() or unproved or evidence.note,
            tuple(evidence.assertions),
            ledger,
            seconds,
            tuple(log.lines),
        )

    def _own_agent(self, scenario: Scenario) -> Subject:
        events = [EventType[name.upper()] for name in _events(scenario)]
        return self.opener(scenario.ring_bytes, scenario.discarders, events)

    def _play(self, scenario: Scenario, evidence: Evidence) -> tuple[dict[str, Any], str]:
        with ExitStack() as stack:
            subject = self.subject
            if scenario.ring_bytes or scenario.discarders:
                subject = stack.enter_context(closing(self._own_agent(scenario)))
            folder = stack.enter_context(_folder(scenario.name, self.where))
            workload = stack.enter_context(closing(self.starter(self.patience_s(scenario))))
            stack.callback(subject.watch, NO_PROCESS)
            evidence.witness = lambda: {"hooks": _hooks_for(scenario, subject.facts())}
            bench = Bench(
                subject, workload, folder, evidence, lambda: self._own_agent(scenario), self.installer
            )
            try:
                unproved = _unproved(body_of(scenario), bench)
            except (OverdueError, ScenarioTimeoutError) as error:
                slowness = measure_slowness()
                if slowness < STARVED or not bench.paced:
                    raise
                # The ledger cannot be closed: how far the script came is not known.
                return {}, f"{error}, and this CPU is {slowness:.0f} times slower than an ordinary one"
            return bench.close_ledger(), unproved


def _events(scenario: Scenario) -> list[str]:
    """The labels of the event types that a scenario needs."""
    return [need.removeprefix("event:") for need in scenario.needs if need.startswith("event:")]


def lacking(scenario: Scenario, subject: Subject) -> str:
    """Which observed fact of this kernel keeps a scenario from running; empty when none does."""
    facts = subject.known()
    for name in _events(scenario):
        if facts["coverage"].get(name, "none") == "none":
            observed = ", ".join(f"{kind} {state}" for kind, state in facts["capabilities"].items())
            return f"no hook for {name} fires on this kernel ({observed})"
        words = facts["limits"].get(name, "")
        if any(need in scenario.needs and limit in words for need, limit in _LIMITS.items()):
            return f"{name}: {words}"
    return next((subject.lacks[need] for need in scenario.needs if need in subject.lacks), "")


def _unproved(body: Body, bench: Bench) -> str:
    """Play the body; what it could not tell here, if it says so."""
    try:
        body(bench)
    except CannotTellError as error:
        return str(error)
    return ""


def _verdict(evidence: Evidence, unproved: str) -> str:
    if evidence.failures:
        return "FAIL"
    if unproved:
        return "SKIP"
    return "PASS" if evidence.assertions else "FAIL"


def _hooks_for(scenario: Scenario, facts: Mapping[str, Any]) -> list[Any]:
    return [hook for hook in facts["hooks"] if hook["event"].partition(".")[0] in _events(scenario)]


def _note(evidence: Evidence, error: Exception) -> None:
    import traceback  # dear to import where the CPU is emulated, and needed only here

    evidence.context["trace"] = traceback.format_exception(error)
    evidence.context["detail"] = getattr(error, "detail", "")
    evidence.record("runs to its end", False, "no error", f"{type(error).__name__}: {error}")


@contextmanager
def _folder(name: str, where: Path) -> Iterator[Path]:
    """A new folder that anyone may enter, gone at the end."""
    folder = where.resolve() / f"fim-{name}-{os.urandom(4).hex()}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """What shutil.rmtree does, without the second that its import takes where the CPU is emulated."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _remove(Path(entry))
        else:
            Path(entry).unlink()
    folder.rmdir()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise ScenarioTimeoutError in whatever runs when the time is up: a scenario that hangs fails."""

    def up(_signal: int, _frame: FrameType | None) -> None:
        raise ScenarioTimeoutError(f"the scenario did not end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
