"""The loop of a campaign: draw a case, play it, judge it, shrink new differences, and log them."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, InfrastructureError
from tests.campaigns.law.case import Case
from tests.campaigns.law.entries import draft
from tests.campaigns.law.judge import Difference, Kind, judge
from tests.campaigns.law.outside import doubts
from tests.campaigns.law.played import Played
from tests.campaigns.law.policies import Rule, policy
from tests.campaigns.law.programs import batch
from tests.campaigns.law.shrink import Budget, shrink
from tests.campaigns.law.truth import events
from tests.campaigns.law.world import World
from tests.campaigns.law.writer import scene

BATCH = 100  # programs of a play
SHRINKS = 3  # kinds that are shrunk, of those that differ in call, place and spelling only
TRIALS = 60
SHRINK_S = 240.0
STARTS = 3  # guests in a row that may fail to start before a campaign ends

Opener = Callable[[World], AbstractContextManager[Any]]  # an arena.Arena
Acceptable = Callable[[Rule], bool]


@dataclass
class Figures:
    """The figures of a campaign so far."""

    programs: int = 0
    operations: int = 0
    plays: int = 0
    matches: int = 0
    guests: int = 0
    played_s: float = 0.0
    witnessed: int = 0  # operations that fanotify confirms
    not_comparable: int = 0  # plays in which the agent without filters lost events
    filtered: dict[str, Counter[str]] = field(default_factory=dict)  # with filters, by type of event
    kinds: Counter[Kind] = field(default_factory=Counter)
    known: Counter[Kind] = field(default_factory=Counter)  # differences that are expected
    first: dict[Kind, int] = field(default_factory=dict)  # after how many programs


@dataclass
class Campaign:
    """Plays cases of a seed on one kernel until its time is over."""

    kernel: str
    seed: int
    opener: Opener
    acceptable: Acceptable
    log: Path
    say: Callable[[str], None]
    batch: int = BATCH
    shrinking: bool = True
    kinds: tuple[str, ...] = ()
    once: bool = False  # end with the first difference
    known: frozenset[tuple[str, ...]] = frozenset()  # kinds that are expected, as Kind.coarse
    figures: Figures = field(default_factory=Figures)
    shrunk: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def run(self, minutes: float) -> Figures:
        """Play until the time is over, with a new guest after a death.

        Raises InfrastructureError if `STARTS` guests in a row do not start, and ConfigError at once.
        """
        left = minutes * 60  # of time with a guest
        number = failures = 0
        try:
            while left > 0 and not self._over():
                world = World.from_seed(self.seed + self.figures.guests)
                self.figures.guests += 1
                try:
                    with self.opener(world) as arena:
                        began, failures = time.monotonic(), 0
                        number = self._in_guest(arena, number, began + left)
                        left -= time.monotonic() - began
                except InfrastructureError as error:
                    failures += 1
                    self._count(Kind("start", detail=type(error).__name__))
                    why = "; ".join([str(error), *getattr(error, "__notes__", ())])
                    self.say(f"  the guest of world {world.seed} did not start: {why}")
                    self._write({"start": why, "world": world.seed})
                    if failures == STARTS:
                        raise
        finally:
            self._write({"summary": self._summary()})
        return self.figures

    def _count(self, kind: Kind) -> None:
        self.figures.kinds[kind] += 1
        self.figures.first.setdefault(kind, self.figures.programs)

    def _unwatched(self, arena: Any) -> None:
        """Print and log which file systems fanotify cannot watch in this guest."""
        if arena.unwatched:
            shown = ", ".join(f"{path} ({error})" for path, error in sorted(arena.unwatched.items()))
            self.say(f"{self.kernel}: fanotify cannot watch {shown}")
            self._write({"unwatched": arena.unwatched})

    def _over(self) -> bool:
        return self.once and bool(self.figures.kinds)

    def case(self, world: World, number: int) -> Case:
        """Return the case of that number, which depends only on seed, world and number."""
        rng = random.Random(f"{self.seed}:{number}")
        made_in = scene(rng, world, self.kinds)
        rules, reload = (
            tuple(rule for rule in policy(rng, made_in) if self.acceptable(rule)) for _ in range(2)
        )
        focus = frozenset(rule.kind for rule in (*rules, *reload))
        programs = tuple(batch(rng, replace(made_in, focus=focus), self.batch))
        if rng.random() < 0.3 and len(programs) > 2:  # the first one makes the trees
            return Case(world, rules, programs, reload, rng.randrange(2, len(programs)))
        return Case(world, rules, programs)

    def _in_guest(self, arena: Any, number: int, until: float) -> int:
        """Play cases in one guest, until it dies or the time is over; return the number of the next case."""
        for missing in arena.world.missing:
            self.say(f"{self.kernel} lacks {missing}")
        complaints: set[str] = set()
        alive = True
        while alive and time.monotonic() < until and not self._over():
            case = self.case(arena.world, number)
            try:
                self._round(arena, case, number)
            except HarnessError as error:
                self._died(case, number, f"{error}; {arena.death()}")
                alive = False
            for line in arena.complaints():
                if line not in complaints:
                    complaints.add(line)
                    self._count(Kind("console", detail=line))
                    self.say(f"  the kernel complained in case {number} of seed {self.seed}: {line}")
                    self._write({"console": line, "case": number})
            number += 1
        self._unwatched(arena)
        return number

    def _round(self, arena: Any, case: Case, number: int) -> None:
        began = time.monotonic()
        played = case.play(arena)
        seconds = time.monotonic() - began
        figures = self.figures
        differences = judge(played, case.script, case.parts, case.world)
        known = [one for one in differences if self._expected(one.kind)]
        differences = [one for one in differences if one not in known]
        for one in known:
            if one.kind not in figures.known:
                self._write({"known": str(one.kind), "case": number, "difference": _plain(one)})
            figures.known[one.kind] += 1
        figures.plays += 1
        figures.programs += len(case.programs)
        figures.operations += len(played.records)
        figures.matches += len(played.on)
        figures.played_s += seconds
        witnessed = doubts(events(played.records, case.script), played.records, played.outside)[0]
        figures.witnessed += witnessed
        figures.not_comparable += bool(played.lost_off)
        kinds = Counter(one.kind for one in differences)
        filtered = filtered_by_type(played.ledger_on)
        for event, counts in filtered.items():
            figures.filtered.setdefault(event, Counter()).update(counts)
        self._write(
            {
                "case": number,
                "programs": figures.programs,
                "records": len(played.records),
                "rules": len(case.rules),
                "on": len(played.on),
                "off": len(played.off),
                "filtered": filtered,
                "witnessed": witnessed,
                "lost_off": played.lost_off,
                "seconds": round(seconds, 2),
                "steps": arena.timing,
                "kinds": {str(kind): count for kind, count in kinds.items()},
            }
        )
        self.say(
            f"{self.kernel} case {number}: {len(case.programs)} programs, {len(played.records)} operations, "
            f"{len(case.rules)} rules, {len(played.on)} matches, {shares(filtered)}, {seconds:.1f} s, "
            f"{witnessed} confirmed by fanotify, {len(differences)} differences, {len(known)} known"
            + _incomparable(played)
        )
        for kind in kinds:
            if kind not in figures.first:
                figures.first[kind] = figures.programs
                self._new(arena, case, number, next(one for one in differences if one.kind == kind))
        figures.kinds += kinds

    def _expected(self, kind: Kind) -> bool:
        """Return whether the corpus has this difference; its entries are about paths not written plainly."""
        plain = kind.check in ("missing", "path") and kind.spelling == "plain"
        return not plain and kind.coarse() in self.known

    def _new(self, arena: Any, case: Case, number: int, difference: Difference) -> None:
        """Print, shrink and store a new kind of difference."""
        self.say(f"  NEW {difference.kind}: expected {difference.expected[:200]}; got {difference.got[:200]}")
        entry: dict[str, Any] = {
            "new": str(difference.kind),
            "case": number,
            "programs": self.figures.programs,
        }
        entry["difference"] = _plain(difference)
        group = difference.kind.coarse()
        self.shrunk[group] += 1
        if self.shrinking and self.shrunk[group] <= SHRINKS:
            small, last, played = self._shrink(arena, case, difference)
            entry |= {"small": small.to_json(), "shrunk": _plain(last) if last else None}
            entry["entry"] = draft(small, last, played.records) if last and played else None
            if last:
                rules = "; ".join(rule.expression for rule in (*small.rules, *(small.reload or ())))
                self.say(f"  shrunk to {small.size()} lines, under {rules[:300]}:")
                self.say("    " + small.script.replace("\n", "\n    "))
                self.say(f"    expected {last.expected[:300]}; got {last.got[:300]}")
                if entry["entry"]:
                    self.say("  as an entry of agent/selftest/corpus:")
                    self.say("    " + entry["entry"].replace("\n", "\n    "))
            else:
                self.say("  did not happen again")
        self._write(entry)

    def _shrink(
        self, arena: Any, case: Case, difference: Difference
    ) -> tuple[Case, Difference | None, Played | None]:
        """Return the smallest case, its difference, and its play; None if it never failed again."""
        found: list[tuple[Difference, Played]] = []

        def fails(trial: Case) -> bool:
            played = trial.play(arena)
            same = [
                one
                for one in judge(played, trial.script, trial.parts, trial.world)
                if one.kind.coarse() == difference.kind.coarse()
            ]
            found.extend((one, played) for one in same[:1])
            return bool(same)

        small = shrink(case, fails, difference.program, difference.rule, Budget(TRIALS, SHRINK_S))
        return small, *(found[-1] if found else (None, None))

    def _died(self, case: Case, number: int, how: str) -> None:
        """Count the death of a guest; its case goes into the log whole, so that `--replay` plays it again."""
        self._count(Kind("died"))
        self.say(f"  the guest died in case {number} of seed {self.seed}: {how}")
        self._write({"died": how, "case": number, "small": case.to_json()})

    def _write(self, entry: dict[str, Any]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a") as file:
            file.write(json.dumps({"kernel": self.kernel, "seed": self.seed, **entry}) + "\n")

    def _summary(self) -> dict[str, Any]:
        figures = self.figures
        return {
            "programs": figures.programs,
            "operations": figures.operations,
            "matches": figures.matches,
            "witnessed": figures.witnessed,
            "not_comparable": figures.not_comparable,
            "plays": figures.plays,
            "guests": figures.guests,
            "filtered": {event: dict(counts) for event, counts in sorted(figures.filtered.items())},
            "programs_a_minute": round(figures.programs * 60 / figures.played_s) if figures.played_s else 0,
            "kinds": [
                {"kind": str(kind), "count": count, "first": figures.first[kind]}
                for kind, count in figures.kinds.most_common()
            ],
            "known": {str(kind): count for kind, count in figures.known.most_common()},
        }


def _incomparable(played: Played) -> str:
    lost = played.lost_off
    return f", filters on and off not comparable: the unfiltered agent lost {lost}" if lost else ""


def _plain(difference: Difference) -> dict[str, Any]:
    return {**asdict(difference), "kind": str(difference.kind)}


PROCESSES = ("exec", "fork", "exit")
FILTERED = ("seen", "approver_rejected", "discarded")


def filtered_by_type(ledger: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Of each type of event that happened: how many, and how many each filter dropped."""
    return {
        event: {name: row.get(name, 0) for name in FILTERED}
        for event, row in sorted(ledger.items())
        if row.get("seen")
    }


def shares(filtered: Mapping[str, Mapping[str, int]]) -> str:
    """The parts of the events that approvers and discarders dropped, in words, without those of processes."""
    rows = [row for event, row in filtered.items() if event not in PROCESSES]
    seen, rejected, discarded = (sum(row.get(name, 0) for row in rows) for name in FILTERED)
    percent = [part * 100 // (whole or 1) for part, whole in ((rejected, seen), (discarded, seen - rejected))]
    return f"{seen} events ({percent[0]} % rejected, {percent[1]} % of the others discarded)"


def summary(figures: Figures) -> Iterator[str]:
    """Return the final lines of a campaign."""
    rate = figures.programs * 60 / figures.played_s if figures.played_s else 0
    yield (
        f"{figures.programs} programs, {figures.operations} operations, {figures.matches} matches in "
        f"{figures.played_s / 60:.1f} minutes of play: {rate:.0f} programs a minute, {figures.guests} guests"
    )
    yield f"fanotify confirms {figures.witnessed} operations"
    if figures.not_comparable:
        count = figures.not_comparable
        yield f"filters on and off not comparable in {count} plays: the unfiltered agent lost events"
    yield f"with filters: {shares(figures.filtered)}"
    for event, row in sorted(figures.filtered.items()):
        words = ", ".join(f"{name} {row[name]}" for name in FILTERED)
        yield f"    {event:12} {words}"
    for kind, count in figures.kinds.most_common():
        yield f"{count:6} {kind} (first after {figures.first[kind]} programs)"
    for kind, count in figures.known.most_common():
        yield f"{count:6} {kind} (known)"
    if not figures.kinds:
        yield "no difference"
