"""Compares approvers and discarders with brute force over all paths of a small universe.

The kernel stage is `agent.filters.model`. It must pass every event that some rule matches: each rule's
approvers by themselves, those of all rules together, and each discard that user space learns from an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from random import Random

from agent.events.actors import Context
from agent.events.model import Event, EventType, File, FileFlags
from agent.filters import approvers, discarders, model, wants
from agent.rules.engine import Ruleset
from tests.campaigns.law.rules import cases, minimise
from tests.campaigns.law.rules.bounds import bounded
from tests.campaigns.law.rules.cases import Difference
from tests.campaigns.law.rules.expressions import Writer
from tests.campaigns.law.rules.samples import OPEN_FLAGS, Pools

SECONDS = 20.0  # of CPU time for one universe
NAMES = ("a", "b", "ab")
DEPTH = 3
PATHS = tuple(
    "".join(f"/{name}" for name in names)
    for depth in range(1, DEPTH + 1)
    for names in product(NAMES, repeat=depth)
)
# Paths that the kernel does not know for certain pass every filter on paths.
UNCERTAIN = (("a/b", FileFlags.TRUNCATED), ("/a", FileFlags.AS_GIVEN), ("/b/a", FileFlags.DETACHED))
USERS = (0, 1000)
RENAME_EXCHANGE = 2
KINDS = (EventType.OPEN, EventType.OPEN, EventType.RENAME, EventType.UNLINK, EventType.LINK, EventType.EXEC)
FLAGS = {EventType.OPEN: OPEN_FLAGS, EventType.RENAME: (0, RENAME_EXCHANGE)}
Seen = tuple[Event, Context]


def universe(seed: str, counts: Counter[str]) -> Iterator[Difference]:
    """Check the filters of a few rules on one event type; each difference is shrunk."""
    random = Random(seed)
    kind = random.choice(KINDS)
    writer = Writer(random, kind.label, Pools(NAMES, (), DEPTH), fim=random.random() < 0.2, only=_wanted)
    expressions = [writer.whole() for _ in range(random.choice((1, 1, 2, 3)))]
    found = _checked(expressions, kind, seed, counts)
    if found is not None:
        yield _shrunk(found, expressions, kind, seed)


def _wanted(name: str) -> bool:
    """Keep the fields that filters can judge, and a few that they cannot."""
    last = name.split(".", 1)[1]
    return last in {
        *("file.path", "file.name", "file.destination.path", "file.destination.name", "write.file.path"),
        *("write.file.name", "script.path", "script.name", "flags", "uid", "auid", "retval"),
        *("file.in_upper_layer", "file.destination.in_upper_layer", "file.extension", "file.mode"),
    }


def _checked(expressions: list[str], kind: EventType, seed: str, counts: Counter[str]) -> Difference | None:
    with bounded(SECONDS):
        ruleset, _ = cases.load(expressions)
        if ruleset is None:
            return None
        events = list(_events(kind, Random(seed)))
        matched = [(seen, set(ruleset.evaluate(*seen))) for seen in events]
        counts["filter events"] += len(events)
        for difference in (_approved(ruleset, matched), _undiscarded(ruleset, matched, counts)):
            if difference is not None:
                return replace(difference, expression="\n".join(expressions))
    return None


def _events(kind: EventType, random: Random) -> Iterator[Seen]:
    """Yield an event for each path of the universe; of two files, for a part of the pairs."""
    certain = [(path, FileFlags.NONE) for path in PATHS]
    for path, flags in (*certain, *UNCERTAIN):
        for _ in range(3):
            second = random.choice((*certain, *UNCERTAIN))
            event = Event(
                kind,
                uid=random.choice(USERS),
                auid=random.choice(USERS),
                retval=random.choice((0, 0, -13)),
                flags=random.choice(FLAGS.get(kind, (0,))),
                file=_file(random, path, flags),
                file2=_file(random, *second) if kind in (EventType.RENAME, EventType.LINK) else None,
            )
            yield event, Context()


def _file(random: Random, path: str, flags: FileFlags) -> File:
    """Return a file whose inode and directories are numbered by their paths."""
    flags |= random.choice((FileFlags.NONE, FileFlags.NONE, FileFlags.UPPER))
    mode = random.choice((0o100644, 0o40755))
    directories = [path.rsplit("/", level)[0] for level in range(1, path.count("/") + 1)]
    identities = (*map(_number, [path, *directories[:3]]), 0, 0, 0)[:4]
    return File(path.encode(), _number(path), 1, 1, mode, nlink=1, flags=flags, identities=identities)


def _number(path: str) -> int:
    """Return the number of a path: of the root 2, of an uncertain path one of its own."""
    return 2 if not path else 3 + PATHS.index(path) if path in PATHS else 1_000 + len(path)


def _approved(ruleset: Ruleset, matched: list[tuple[Seen, set[str]]]) -> Difference | None:
    together = approvers.derive(ruleset)
    single = {
        rule.id: approvers.collect(wanted)
        for rule in ruleset.by_type[matched[0][0][0].type]
        if not isinstance(wanted := wants.wants(rule.condition), wants.Refusal)
    }
    for (event, _), hits in matched:
        gates = [("all rules", together[event.type])] if hits else []
        gates += [(hit, single[hit]) for hit in hits if hit in single]
        for name, gate in gates:
            if not model.approves(gate, event):
                return Difference(
                    "approvers", "", None, f"{name}: rejects {event}", f"matched by {sorted(hits)}"
                )
    return None


def _undiscarded(
    ruleset: Ruleset, matched: list[tuple[Seen, set[str]]], counts: Counter[str]
) -> Difference | None:
    """Insert every discard of events without a match at once; then no event that matches may be dropped."""
    learner = discarders.Learner(ruleset)
    gate = dict.fromkeys(EventType, approvers.Approvers(approvers.Mode.FORWARD_ALL))
    kernel = model.Kernel(gate, capacity=1 << 20)
    for (event, _), hits in matched:
        if not hits:
            kernel.stamp(event)
            learned = learner.learn(event)
            counts["discards"] += len(learned)
            kernel.insert(event, learned)
    for (event, _), hits in matched:
        kernel.stamp(event)
        if hits and not kernel.forwards(event):
            return Difference("discarders", "", None, f"drops {event}", f"matched by {sorted(hits)}")
    return None


def _shrunk(found: Difference, expressions: Iterable[str], kind: EventType, seed: str) -> Difference:
    best = found

    def fails(left: list[str]) -> bool:
        nonlocal best
        again = _checked(left, kind, seed, Counter())
        if again is not None and again.kind == found.kind:
            best = again
            return True
        return False

    left = minimise.fewer(list(expressions), fails)
    for at in range(len(left)):
        before = left[:at], left[at + 1 :]
        left[at] = minimise.expression(left[at], lambda text, b=before: fails([*b[0], text, *b[1]]))  # type: ignore[misc]
    return best
