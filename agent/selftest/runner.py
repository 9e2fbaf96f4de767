"""Runs scenarios with a loaded agent; each ends in a verdict with evidence, also if it raises or hangs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from agent.events.model import EventType
from agent.selftest.bench import Bench, CannotTellError
from agent.selftest.catalogue import Scenario
from agent.selftest.evidence import Evidence
from agent.selftest.kernellog import KernelLog
from agent.selftest.protocol import Ran
from agent.selftest.scenarios import Body, body_of
from agent.selftest.subject import NO_PROCESS, Installer, Opener, Resident, Starter, Subject
from agent.selftest.workload import OverdueError

REFERENCE_S = 0.004  # the duration of `measure_slowness` on an idle machine of 2020
ROUNDS = 100_000
# Times 1 + cost: when a script is overdue. What still runs a fifth later hangs. Both are shorter than the
# deadline of a client, so that the agent reports what it was.
MAX_PATIENCE_S = 20.0
HANGS = 1.2
CLIENT_S = 30.0  # the deadline of a client whose host is idle, times 1 + cost: TEST_S of the harness
MOST = 8.0  # factor by which a client with a longer deadline makes the agent more patient at most
STARVED = 60  # times slower; an emulated CPU with its share of the host is faster than that


class ScenarioTimeoutError(Exception):
    """A scenario did not end in time."""


def measure_slowness() -> float:
    """Return how many times slower than a usual machine this one is; an emulated CPU is 10 to 40 times."""
    started = time.perf_counter()
    sum(range(ROUNDS))
    return max(1.0, (time.perf_counter() - started) / REFERENCE_S)


def no_resident(
    folder: Path, rules: Mapping[str, str], patience_s: float, under: Sequence[str] = ()
) -> Resident:
    """Raise, because a fake agent cannot run as a process; `Subject.lacks` skips scenarios that need one."""
    raise NotImplementedError


class Stage(NamedTuple):
    """The environment that the scenarios of one variant share.

    `starter` starts a generator. `opener` loads another agent, for scenarios that need one of their own.
    `installer` starts an agent as a process. Scenarios create their folders in `where`; `leave` removes what
    was made for them. `ended` returns why their world is no longer what it was, "" while it is.
    `deadline_s` is that of the client for the next scenario, 0 if it has none. `opens` is
    how many opens a second the generator made before the agent was loaded, while the machine had this
    `slowness`; 0 if that was not measured.
    """

    subject: Subject
    starter: Starter
    opener: Opener
    slowness: float
    where: Path = Path("/tmp")  # noqa: S108 - folders there get names of their own
    installer: Installer = no_resident
    leave: Callable[[], object] = tuple
    ended: Callable[[], str] = str
    deadline_s: float = 0.0
    opens: int = 0

    def alone(self) -> int:
        """Estimate how many opens a second this machine makes now, without the agent's programs."""
        return int(self.opens * self.slowness / measure_slowness())

    def patience_s(self, scenario: Scenario) -> float:
        """Return after how many seconds the scripts of a scenario are overdue.

        A guest cannot see that its host is busy. The client can, and then has a longer deadline.
        """
        longer = min(MOST, max(1.0, self.deadline_s / (CLIENT_S * (1 + scenario.cost))))
        return longer * (1 + scenario.cost) * min(MAX_PATIENCE_S, 4 + 2 * self.slowness)

    def run(self, scenario: Scenario) -> Ran:
        """Run one scenario and return its verdict. Errors of the scenario or the agent are not raised."""
        if missing := lacking(scenario, self.subject):
            return Ran(0, scenario.name, "SKIP", missing)
        started = time.monotonic()
        evidence = Evidence()
        ledger: dict[str, Any] = {}
        unproved = ""
        with KernelLog(scenario.name) as log:
            try:
                with _at_most(HANGS * self.patience_s(scenario)):
                    ledger, unproved = self._play(scenario, evidence)
            except Exception as error:  # noqa: BLE001 - becomes the verdict FAIL, and the next test runs
                _note(evidence, error)
        if ended := self.ended():
            evidence.record("its world", False, "as it was made", ended)
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
        events = [EventType[name.upper()] for name in scenario.events]
        return self.opener(scenario.ring_bytes, scenario.discarders, events)

    def _play(self, scenario: Scenario, evidence: Evidence) -> tuple[dict[str, Any], str]:
        ends = time.monotonic() + self.patience_s(scenario)
        with ExitStack() as stack:
            subject = self.subject
            if scenario.ring_bytes or scenario.discarders:
                subject = stack.enter_context(closing(self._own_agent(scenario)))
            folder = stack.enter_context(_folder(scenario.name, self.where))
            workload = stack.enter_context(closing(self.starter(self.patience_s(scenario))))
            stack.callback(subject.watch, NO_PROCESS)
            evidence.witness = lambda: {"hooks": _hooks_for(scenario, subject.facts())}
            if subject is not self.subject:
                stack.push(partial(_keep_witness, evidence))
            own_agent = partial(self._own_agent, scenario)
            bench = Bench(
                subject, workload, folder, evidence, own_agent, self.installer, ends=ends, alone=self.alone
            )
            try:
                unproved = _unproved(body_of(scenario), bench)
            except OverdueError as error:
                workload.close()  # what it still runs would slow this process down
                slowness = measure_slowness()
                if slowness < STARVED or not bench.paced:
                    raise
                # The ledger cannot be closed, because it is unknown how much of the script ran.
                return {}, f"{error}, and this CPU is {slowness:.0f} times slower than a usual one"
            return bench.close_ledger(), unproved


def lacking(scenario: Scenario, subject: Subject) -> str:
    """Return the observed fact of this kernel that makes a scenario impossible; empty if there is none."""
    facts = subject.known()
    if unseen := scenario.unseen(facts["coverage"], facts["limits"]):
        observed = ", ".join(f"{kind} {state}" for kind, state in facts["capabilities"].items())
        nothing = f"no hook for {unseen.event} fires on this kernel ({observed})"
        return f"{unseen.event}: {unseen.limit}" if unseen.limit else nothing
    return next((subject.lacks[need] for need in scenario.needs if need in subject.lacks), "")


def _unproved(body: Body, bench: Bench) -> str:
    """Run the scenario's code; return why it could prove nothing here, or an empty string."""
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
    return [hook for hook in facts["hooks"] if hook["event"].partition(".")[0] in scenario.events]


def _keep_witness(evidence: Evidence, _: object, error: BaseException | None, __: object) -> None:
    """Ask the agent for its facts while it is open: an error is recorded when it is closed."""
    if error:
        kept = evidence.witness()
        evidence.witness = lambda: kept


def _note(evidence: Evidence, error: Exception) -> None:
    import traceback  # lazy: slow to import on an emulated CPU

    evidence.context["trace"] = traceback.format_exception(error)
    evidence.context["detail"] = getattr(error, "detail", "")
    evidence.record("runs to its end", False, "no error", f"{type(error).__name__}: {error}")


@contextmanager
def _folder(name: str, where: Path) -> Iterator[Path]:
    """Create a folder that all users may enter, and remove it at the end."""
    folder = where.resolve() / f"fim-{name}-{os.urandom(4).hex()}"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Remove a folder like shutil.rmtree, whose import takes a second on an emulated CPU."""
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            _remove(Path(entry))
        else:
            Path(entry).unlink()
    folder.rmdir()


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise ScenarioTimeoutError in the running code after this time, so that a hanging scenario fails."""

    def up(_signal: int, _frame: FrameType | None) -> None:
        raise ScenarioTimeoutError(f"the scenario did not end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
