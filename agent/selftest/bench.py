"""The words in which a scenario is written: rules, a script, what came of it, and what must hold."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from agent.events.model import Event, EventType
from agent.hooks import sets
from agent.ledger import Account
from agent.selftest import accounts, places
from agent.selftest.accounts import Accounts
from agent.selftest.effects import generated, lines_of
from agent.selftest.evidence import CannotTellError, Evidence
from agent.selftest.subject import NO_PROCESS, Installer, Judged, Resident, Subject
from agent.selftest.workload import Outcome, OverdueError, Workload, quote

__all__ = ["SENTINEL", "Bench", "CannotTellError", "Round"]

SENTINEL = "sentinel"  # the rule that every set of rules holds


class Round(NamedTuple):
    """One script between its two sentinels: what the generator did and what arrived meanwhile."""

    outcome: Outcome
    judged: tuple[Judged, ...]
    spent: Accounts

    def of(self, kind: EventType) -> tuple[Event, ...]:
        """The events of one type that arrived."""
        return tuple(one.event for one in self.judged if one.event.type is kind)

    def matches(self, rule: str) -> tuple[Event, ...]:
        """The events that one rule matched."""
        return tuple(one.event for one in self.judged if rule in one.rules)


class Bench:
    """One scenario's place to work: a folder of its own, the agent, the generator, and the record.

    Every script is played between two sentinels, events that the rules always want. A record is in the ring
    before its system call returns: when the generator is done and the ring is empty, what has not arrived
    never will, and the last sentinel proves that the stream was still flowing. Nothing is waited for.
    """

    def __init__(
        self,
        subject: Subject,
        workload: Workload,
        folder: Path,
        evidence: Evidence,
        another: Callable[[], Subject],
        installer: Installer,
    ) -> None:
        self.subject = subject
        self.another = another  # loads one more agent, which whoever asks for it must close
        self._installer = installer
        self.workload = workload
        self.folder = folder
        self.evidence = evidence
        self._generated: Counter[EventType] = Counter()
        self._families: set[str] = set()  # of the programs that told events
        for name in ("first", "last"):
            (folder / name).touch()
        subject.drain()  # what the end of the scenario before left behind
        subject.watch(workload.pid)
        self._start = self._latest = subject.accounts()

    @property
    def pid(self) -> int:
        """The generator's process id: what events must carry."""
        return self.workload.pid

    @property
    def program(self) -> str:
        """The path of a program that a script can exec: the generator; `exit N` ends it with that status."""
        return str(self.workload.binary)

    @property
    def depth(self) -> int:
        """The number of slashes in the path of something in the scenario's folder."""
        return self.path("").count("/")

    @property
    def paced(self) -> bool:
        """Whether the script that is played, or was last, has a rate to keep."""
        return any(line.startswith("rate ") for line in self.evidence.context.get("script", ()))

    def path(self, name: str) -> str:
        """A path in the scenario's folder."""
        return f"{self.folder}/{name}"

    def file(self, name: str) -> str:
        """The path of a new empty file in the scenario's folder; the agent makes it: it is no event."""
        (self.folder / name).touch()
        return self.path(name)

    def mounted(
        self, name: str, kind: str = "tmpfs", options: Callable[[], str] = str
    ) -> AbstractContextManager[str]:
        """A fresh file system in a new directory of the folder; nobody watches its making: it is no event."""
        return places.mounted(Path(self.path(name)), kind, options(), self.unwatched)

    def enriched(self) -> AbstractContextManager[None]:
        """Meanwhile events are told with who did them; rules must be put in force after that."""
        return self.subject.enriched()

    def resident(self, **expressions: str) -> Resident:
        """Start `agent run` with rules, id -> expression; whoever asks for it must close it."""
        return self._installer(self.folder, expressions, self.workload.patience_s)

    def rules(self, **expressions: str) -> None:
        """Put rules in force, id -> expression, and the sentinels' rule with them."""
        everything = self.with_sentinel(expressions)
        self.evidence.context["rules"] = everything
        self.subject.enforce(everything)

    def with_sentinel(self, expressions: Mapping[str, str]) -> dict[str, str]:
        """Those rules and the one of the sentinels."""
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
        """Run a script between sentinels and take in all that arrives.

        `refused` are the calls that the kernel is to refuse, as in `Outcome.failures`. Without `absorb`
        nothing is read while the script runs, as if the agent had no time. `meanwhile` is called whenever
        something arrived and once at the start. What is `unseen` makes no event that must be accounted for.
        """
        self.evidence.context["script"] = script.splitlines()
        before = self._latest  # between two scripts the generator waits: nothing is counted
        _, first = self._run(self._sentinel("first"))
        seen = self._generated.copy()
        outcome, judged = self._run(script, absorb=absorb, meanwhile=meanwhile)
        if unseen:
            self._generated = seen
        _, last = self._run(self._sentinel("last"))
        self._check_sentinels(first, judged, last)
        self.evidence.equal("refused by the kernel", refused or {}, dict(outcome.failures))
        self._latest = self.subject.accounts()
        spent = accounts.since(self._latest, before)
        self.evidence.context["ledger"] = accounts.rows(generated(outcome), spent)
        return Round(outcome, tuple(judged), spent)

    def unwatched(self, script: str) -> Outcome:
        """Run a script with the hooks in place but nothing in their scope: it makes no event."""
        self.subject.watch(NO_PROCESS)
        outcome = self.workload.run(script)
        self.subject.watch(self.workload.pid)
        return outcome

    def close_ledger(self) -> dict[str, Any]:
        """Hold the three witnesses of all that happened here against each other; the rows of results.json."""
        facts = self.subject.known()
        coverage, skips = facts["coverage"], facts["capabilities"].get("skips") == "fires"
        attached = sets.families(row["type"] for row in facts["hooks"] if row["state"] == "attached")
        told = self._families
        if told:
            self.evidence.record("events of attached programs", told <= attached, attached, told)
        rows = {}
        for kind, account in accounts.since(self.subject.accounts(), self._start).items():
            seen = coverage.get(kind.label, "none") != "none"  # without a hook nothing must be counted
            made = self._generated[kind] if seen else 0
            account = accounts.ours(made, account) if skips else account
            if made or any(account):
                self._check_account(kind, made, account)
                rows[kind.label] = accounts.row(made, account)
        return rows

    def equal(self, name: str, expected: object, got: object) -> bool:
        """Record an assertion; see `Evidence.equal`."""
        return self.evidence.equal(name, expected, got)

    def arrives_once(self, played: Round, rule: str, expected: Mapping[str, object]) -> None:
        """Hold one event to what is known of it: `expected` maps attributes (`file.path`) to values."""
        events = played.matches(rule)
        about = partial(self._about, rule, played)
        if self.evidence.equal(f"{rule} arrives", 1, len(events), about):
            for name, value in expected.items():
                self.evidence.equal(f"{rule} tells {name}", value, attrgetter(name)(events[0]), about)

    def _about(self, rule: str, played: Round) -> dict[str, object]:
        """A rule, the lines of the script that it is about, and the hooks that should have seen them."""
        expression = self.evidence.context["rules"][rule]
        made = lines_of(played.outcome)
        kinds = {kind.label for kind in made if f"{kind.label}." in expression} or {k.label for k in made}
        rows = [row for row in self.subject.known()["hooks"] if row["event"].partition(".")[0] in kinds]
        return {
            "rule": f"{rule}: {expression}",
            "line": [line for kind, lines in made.items() if kind.label in kinds for line in lines],
            "hook": [f"{row['event']} by {row['type']} at {row['point']}: {row['state']}" for row in rows],
        }

    def _run(
        self, script: str, *, absorb: bool = True, meanwhile: Callable[[], None] | None = None
    ) -> tuple[Outcome, list[Judged]]:
        self.workload.begin(script)
        judged: list[Judged] = []
        deadline = time.monotonic() + self.workload.patience_s
        while (outcome := self.workload.advance()) is None:
            if meanwhile:
                meanwhile()
            self._wait(deadline, absorb)
            if absorb:
                judged += self.subject.drain()
        judged += self.subject.drain()
        self._families |= {sets.FAMILIES[one.event.program] for one in judged}
        self._generated.update(generated(outcome))
        return outcome, judged

    def _wait(self, deadline: float, absorb: bool) -> None:
        sources: list[Workload | Subject] = [self.workload, *([self.subject] if absorb else [])]
        left = max(0.0, deadline - time.monotonic())
        if not any(select.select(sources, [], [], left)):
            raise OverdueError(f"the script did not end within {self.workload.patience_s:.0f} s")

    def _sentinel(self, name: str) -> str:
        return f"open {quote(bytes(self.folder / name))} O_RDONLY -> $31\nclose $31\n"

    def _check_sentinels(self, first: list[Judged], between: list[Judged], last: list[Judged]) -> None:
        frame = [[self.path("first")], [], [self.path("last")]]
        got = [_sentinels(judged) for judged in (first, between, last)]
        self.evidence.equal("sentinels before, between and after", frame, got)

    def _check_account(self, kind: EventType, made: int, account: Account) -> None:
        held = accounts.identities(made, account)
        self.evidence.context["ledger"] = account._asdict()
        expected, got = ({one.equation: one[side] for one in held} for side in (1, 2))
        self.equal(f"ledger of {kind.label}", expected, got)


def _sentinels(judged: list[Judged]) -> list[str]:
    return [os.fsdecode(one.event.file.path) for one in judged if SENTINEL in one.rules]
