"""Offers the operations that scenarios are written with: set rules, play a script, check the events."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from agent.events.model import Event, EventType
from agent.hooks import sets
from agent.ledger import Account
from agent.selftest import accounts, filesystems
from agent.selftest.accounts import Accounts
from agent.selftest.effects import generated, lines_of
from agent.selftest.evidence import CannotTellError, Evidence
from agent.selftest.subject import NO_PROCESS, Installer, Judged, Resident, Subject
from agent.selftest.workload import Outcome, OverdueError, Workload, quote

__all__ = ["SENTINEL", "Bench", "CannotTellError", "Round", "opens_a_second"]

SENTINEL = "sentinel"  # the rule that matches the sentinel events; it is part of every rule set
CALIBRATION = 2003  # opens that measure the speed of the CPU
# How many times slower the attached programs may make an unwatched open at most. On emulated CPUs it is 1.4
# (docs/cost.md) to about 3 with kprobes; both speeds are measured while the host may do other work.
MOST_SLOWER = 10
ATTEMPTS = 3


class Round(NamedTuple):
    """One played script: the generator's report, the events that arrived, and what was counted."""

    outcome: Outcome
    judged: tuple[Judged, ...]
    counted: Accounts

    def of(self, kind: EventType) -> tuple[Event, ...]:
        """Return the events of one type."""
        return tuple(judged.event for judged in self.judged if judged.event.type is kind)

    def matches(self, rule: str) -> tuple[Event, ...]:
        """Return the events that a rule matched."""
        return tuple(judged.event for judged in self.judged if rule in judged.rules)


def opens_a_second(run: Callable[[str], Outcome], path: str) -> int:
    """Measure how many opens a second the generator makes, by a function that runs its script."""
    loop = run(f"repeat {CALIBRATION}\nopen {path} O_RDONLY -> $0\nclose $0\nend\n").at(1)
    return int(CALIBRATION / loop.seconds)


class Bench:
    """The agent, the generator, a folder and the evidence of one scenario.

    Every script is played between two sentinels, events that the rules always match. The kernel writes a
    record before its system call returns. So once the generator is done and the ring buffer is empty, an
    event that has not arrived never will, and the last sentinel proves that the agent still received events.
    """

    def __init__(
        self,
        subject: Subject,
        workload: Workload,
        folder: Path,
        evidence: Evidence,
        another: Callable[[], Subject],
        installer: Installer,
        ends: float,
        alone: Callable[[], int],
    ) -> None:
        self.subject = subject
        self.another = another  # loads one more agent, which the caller must close
        self._installer = installer
        self._ends = ends  # when a script that still runs is overdue, by the monotonic clock
        self._alone = alone  # estimates the opens a second of this CPU without the agent's programs
        self.workload = workload
        self.folder = folder
        self.evidence = evidence
        self._generated: Counter[EventType] = Counter()
        self._families: set[str] = set()  # of the programs that reported events
        for name in ("first", "last"):
            (folder / name).touch()
        subject.drain()  # events of the previous scenario's end
        subject.watch(workload.pid)
        # Other processes go on missing events: read before the accounts, and after them at the end.
        self._skipped = subject.skipped()
        self._start = self._latest = subject.accounts()

    @property
    def pid(self) -> int:
        """The generator's process id, which its events must have."""
        return self.workload.pid

    @property
    def program(self) -> str:
        """The path of the generator, which a script can exec; with `exit N` it ends with that status."""
        return str(self.workload.binary)

    @property
    def depth(self) -> int:
        """The number of slashes in a path in the scenario's folder."""
        return self.path("").count("/")

    @property
    def paced(self) -> bool:
        """Whether the latest script has a rate to keep."""
        return any(line.startswith("rate ") for line in self.evidence.context.get("script", ()))

    def path(self, name: str) -> str:
        """Return a path in the scenario's folder."""
        return f"{self.folder}/{name}"

    def file(self, name: str) -> str:
        """Create an empty file in the scenario's folder and return its path. This process makes no events."""
        (self.folder / name).touch()
        return self.path(name)

    def mounted(
        self, name: str, kind: str = "tmpfs", options: Callable[[], str] = str
    ) -> AbstractContextManager[str]:
        """Mount a new file system at a new directory of the folder, without events; yields its path."""
        return filesystems.mounted(Path(self.path(name)), kind, options(), self.unwatched)

    def enriched(self) -> AbstractContextManager[None]:
        """Within this context events have their process and container. Set the rules after entering it."""
        return self.subject.enriched()

    def resident(self, **expressions: str) -> Resident:
        """Start `agent run` with rules (id -> expression); the caller must close it."""
        return self._installer(self.folder, expressions, self.workload.patience_s)

    def confined(self, command: Sequence[str], **expressions: str) -> Resident:
        """Start `agent run` by a command that takes something from it; the caller must close it."""
        return self._installer(self.folder, expressions, self.workload.patience_s, command)

    def rules(self, **expressions: str) -> None:
        """Set the rules (id -> expression), and the rule of the sentinels with them."""
        everything = self.with_sentinel(expressions)
        self.evidence.context["rules"] = everything
        self.subject.enforce(everything)

    def with_sentinel(self, expressions: Mapping[str, str]) -> dict[str, str]:
        """Return the rules and the rule of the sentinels."""
        sentinel = f'open.file.path in ["{self.path("first")}", "{self.path("last")}"]'
        return {SENTINEL: sentinel, **expressions}

    def play(
        self,
        script: str,
        *,
        refused: Mapping[str, int] | None = None,
        absorb: bool = True,
        meanwhile: Callable[[], None] | None = None,
        unseen: bool = False,
    ) -> Round:
        """Run a script between sentinels and collect its events.

        `refused` are the calls that the kernel must refuse, as in `Outcome.failures`. Without `absorb`
        the agent reads nothing while the script runs. `meanwhile` is called once at the start and whenever
        events arrive. The events of an `unseen` script are not expected in the ledger.
        """
        self.evidence.context["script"] = script.splitlines()
        before = self._latest  # nothing is counted between two scripts, because the generator waits
        _, first = self._run(self._sentinel("first"))
        expected = self._generated.copy()
        outcome, judged = self._run(script, absorb=absorb, meanwhile=meanwhile)
        if unseen:
            self._generated = expected
        _, last = self._run(self._sentinel("last"))
        self._check_sentinels(first, judged, last)
        self.evidence.equal("refused by the kernel", refused or {}, dict(outcome.failures))
        self._latest = self.subject.accounts()
        counted = accounts.since(self._latest, before)
        self.evidence.context["ledger"] = accounts.rows(generated(outcome), counted)
        return Round(outcome, tuple(judged), counted)

    def also_made(self, kind: EventType, count: int) -> None:
        """Account for events of processes that report nothing (`mute` in a script)."""
        self._generated[kind] += count

    def unwatched(self, script: str) -> Outcome:
        """Run a script while the agent watches no process, so that it makes no events."""
        self.subject.watch(NO_PROCESS)
        outcome = self.workload.run(script)
        self.subject.watch(self.workload.pid)
        return outcome

    def too_slow(self, reason: str) -> CannotTellError:
        """Return the error for a CPU that is too slow; it is a failure if the agent's programs make it so."""
        for _ in range(ATTEMPTS):
            reached, alone = opens_a_second(self.unwatched, self.program), self._alone()
            if within := reached * MOST_SLOWER >= alone:
                break
        least = f"at least {alone // MOST_SLOWER}, a {MOST_SLOWER}th of {alone} without the agent"
        self.evidence.record("opens a second with the agent's programs", within, least, reached)
        return CannotTellError(reason)

    def close_ledger(self) -> dict[str, Any]:
        """Compare the counters of generator, kernel stage and agent; return the rows of results.json."""
        facts = self.subject.known()
        coverage, skips = facts["coverage"], facts["capabilities"].get("skips") == "fires"
        attached = sets.families(row["type"] for row in facts["hooks"] if row["state"] == "attached")
        reporting = self._families
        if reporting:
            self.evidence.record("events of attached programs", reporting <= attached, attached, reporting)
        rows = {}
        counted = accounts.since(self.subject.accounts(), self._start)
        skipped = self.subject.skipped()
        for kind, account in counted.items():
            seen = coverage.get(kind.label, "none") != "none"  # without a hook nothing must be counted
            expected = self._generated[kind] if seen else 0
            missed = skipped.get(kind, 0) - self._skipped.get(kind, 0) if skips else 0
            others = accounts.misses_of_others(expected, account, missed)
            account = account._replace(program_misses=account.program_misses - others)
            if expected or any(account):
                self._check_account(kind, expected, account)
                rows[kind.label] = accounts.row(expected, account, others)
            if own := missed - others:
                most = accounts.most_skipped(expected)
                name = f"events of {kind.label} that the kernel skipped"
                self.evidence.record(name, own <= most, f"at most {most}", own)
        return rows

    def equal(self, name: str, expected: object, got: object) -> bool:
        """Record whether two values are equal; see `Evidence.equal`."""
        return self.evidence.equal(name, expected, got)

    def arrives_once(self, played: Round, rule: str, expected: Mapping[str, object]) -> None:
        """Check that a rule matched one event, with these values of attributes such as `file.path`."""
        events = played.matches(rule)
        about = partial(self._about, rule, played)
        if self.evidence.equal(f"events of {rule}", 1, len(events), about):
            for name, value in expected.items():
                self.evidence.equal(f"{name} of {rule}", value, attrgetter(name)(events[0]), about)

    def _about(self, rule: str, played: Round) -> dict[str, object]:
        """Return a rule, the lines of the script with events of its types, and the hooks of these types."""
        expression = self.evidence.context["rules"][rule]
        by_kind = lines_of(played.outcome)
        labels = {kind.label for kind in by_kind}
        kinds = {label for label in labels if f"{label}." in expression} or labels
        rows = [row for row in self.subject.known()["hooks"] if row["event"].partition(".")[0] in kinds]
        return {
            "rule": f"{rule}: {expression}",
            "line": [line for kind, lines in by_kind.items() if kind.label in kinds for line in lines],
            "hook": [f"{row['event']} by {row['type']} at {row['point']}: {row['state']}" for row in rows],
        }

    def _run(
        self, script: str, *, absorb: bool = True, meanwhile: Callable[[], None] | None = None
    ) -> tuple[Outcome, list[Judged]]:
        self.workload.begin(script)
        judged: list[Judged] = []
        deadline = min(self._ends, time.monotonic() + self.workload.patience_s)
        while (outcome := self.workload.advance()) is None:
            if meanwhile:
                meanwhile()
            self._wait(deadline, absorb)
            if absorb:
                judged += self.subject.drain()
        judged += self.subject.drain()
        self._families |= {sets.FAMILIES[arrived.event.program] for arrived in judged}
        self._generated.update(generated(outcome))
        return outcome, judged

    def _wait(self, deadline: float, absorb: bool) -> None:
        sources: list[Workload | Subject] = [self.workload, *([self.subject] if absorb else [])]
        left = deadline - time.monotonic()
        if left <= 0 or not any(select.select(sources, [], [], left)):
            raise OverdueError("the script did not end in time")

    def _sentinel(self, name: str) -> str:
        return f"open {quote(bytes(self.folder / name))} O_RDONLY -> $31\nclose $31\n"

    def _check_sentinels(self, first: list[Judged], between: list[Judged], last: list[Judged]) -> None:
        frame = [[self.path("first")], [], [self.path("last")]]
        got = [_sentinels(judged) for judged in (first, between, last)]
        self.evidence.equal("sentinels before, between and after", frame, got)

    def _check_account(self, kind: EventType, events: int, account: Account) -> None:
        identities = accounts.identities(events, account)
        self.evidence.context["ledger"] = account._asdict()
        expected, got = ({identity.equation: identity[side] for identity in identities} for side in (1, 2))
        self.equal(f"ledger of {kind.label}", expected, got)


def _sentinels(judged: list[Judged]) -> list[str]:
    return [os.fsdecode(arrived.event.file.path) for arrived in judged if SENTINEL in arrived.rules]
