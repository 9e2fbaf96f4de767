"""The pipeline, with a list of records as the kernel side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pytest

from agent.events.actors import Context
from agent.events.model import Event, EventType, FileFlags
from agent.filters.approvers import Approvers, Mode
from agent.kernel.loader import HookState
from agent.kernel.maps import Discard, Discarder, KernelCounts
from agent.pipeline import RETENTION_NS, Pipeline
from agent.rules.load import loads
from tests.agent.events.test_decode import record


class Ring:
    def __init__(self) -> None:
        self.waited: list[int] = []

    def wait(self, timeout_ms: int) -> None:
        self.waited.append(timeout_ms)


class Tables:
    def __init__(self) -> None:
        self.discards: list[tuple[Discarder, Discard]] = []

    def insert_discard(self, discarder: Discarder, discard: Discard) -> None:
        self.discards.append((discarder, discard))

    def losses(self) -> dict[int, int]:
        return {1013: 5}

    def counts(self) -> dict[EventType, KernelCounts]:
        return {EventType.OPEN: KernelCounts(seen=2, submitted=2)}


class FakeLoaded:
    """The part of `Loaded` that the pipeline uses; policy numbers start at 8, as `record` writes them."""

    hooks: Sequence[HookState] = ()
    coverage: Mapping[str, str] = {}
    capabilities: Mapping[str, str] = {}
    limits: Mapping[str, str] = {}

    def __init__(self, discards: bool = True) -> None:
        self.discards = discards
        self.records: list[bytes] = []
        self.ring = Ring()
        self.checks = 0
        self.tables = Tables()
        self.policies: list[Mapping[EventType, Approvers]] = []
        self.steps: list[tuple[str, frozenset[EventType]]] = []

    def attach(self, events: frozenset[EventType], between: Callable[[], object]) -> None:
        self.steps.append(("attach", events))
        between()

    def detach_one(self, events: frozenset[EventType]) -> bool:
        self.steps.append(("detach", events))
        return len(self.steps) < 4

    def set_policy(self, approvers: Mapping[EventType, Approvers]) -> int:
        self.policies.append(approvers)
        self.steps.append(("policy", frozenset()))
        return 7 + len(self.policies)

    def void_if_skipped(self) -> None:
        self.checks += 1

    def skipped(self) -> dict[str, int]:
        return {"open.enter": 0}

    def drain(self) -> list[bytes]:
        records, self.records = self.records, []
        return records


RULES = 'rules: [{id: secret, expression: open.file.path == "/etc/secret"}]'
OTHERS = 'rules: [{id: other, expression: open.file.path == "/srv/x"}]'


class Bench:
    def __init__(self, discards: bool = True) -> None:
        self.loaded = FakeLoaded(discards)
        self.judged: list[tuple[Event, list[str]]] = []
        self.pipeline = Pipeline(self.loaded, self._take)  # type: ignore[arg-type]
        self.pipeline.enforce(loads(RULES))

    def _take(self, event: Event, context: Context, rules: Sequence[str]) -> None:
        self.judged.append((event, list(rules)))

    def feed(self, *records: bytes) -> list[list[str]]:
        self.loaded.records += records
        self.pipeline.pump(0)
        taken, self.judged = self.judged, []
        return [rules for _, rules in taken]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_match_is_reported_with_its_rules(bench: Bench) -> None:
    assert bench.feed(
        record(EventType.OPEN, [[b"etc", b"secret"]]), record(EventType.OPEN, [[b"etc", b"other"]])
    ) == [["secret"], []]
    account = bench.pipeline.accounts()[EventType.OPEN]
    assert (account.delivered, account.matched, account.unmatched) == (2, 1, 1)


def test_invalid_records_are_counted(bench: Bench) -> None:
    assert bench.feed(b"\1" * 400) == []
    assert bench.pipeline.state()["undecodable"] == 1
    assert bench.pipeline.state()["lost_by_user"] == {"1013": 5}


def test_each_event_is_judged_by_the_rules_that_let_it_through(bench: Bench) -> None:
    """The old rules judge records that were in the ring when new rules came."""
    bench.pipeline.enforce(loads(OTHERS))
    assert bench.feed(record(EventType.OPEN, [[b"etc", b"secret"]])) == [["secret"]]
    assert bench.loaded.tables.discards == []


def test_a_discard_has_the_facts_of_its_proof(bench: Bench) -> None:
    bench.feed(record(EventType.OPEN, [[b"var", b"lib", b"x"]]))
    ((discarder, discard),) = bench.loaded.tables.discards
    assert discarder == Discarder(identity=5, mount_id=29, level=2)
    assert discard._replace(mask=0) == Discard(0, 99 + RETENTION_NS, serial=8, generation=3, epoch=13)
    assert discard.mask & EventType.OPEN.mask


def test_of_several_discards_one_is_inserted(bench: Bench) -> None:
    """That of the highest directory, or of the file itself if its directory can hold a match."""
    for path in ([b"a", b"b", b"c", b"x"], [b"etc", b"x"]):
        bench.feed(record(EventType.OPEN, [path]))
    assert [discarder.level for discarder, _ in bench.loaded.tables.discards] == [3, 0]


def test_an_uncertain_path_makes_no_discard(bench: Bench) -> None:
    bench.feed(record(EventType.OPEN, [[b"var", b"x"]], flags=FileFlags.DETACHED))
    assert bench.loaded.tables.discards == []


def test_without_the_hooks_that_make_them_stale_there_are_no_discarders() -> None:
    bench = Bench(discards=False)
    bench.feed(record(EventType.OPEN, [[b"var", b"lib", b"x"]]))
    assert bench.loaded.tables.discards == []


def test_the_context_needs_process_events_with_any_rules() -> None:
    loaded = FakeLoaded()
    Pipeline(loaded, lambda *_: None, lambda _: None).enforce(loads(RULES))  # type: ignore[arg-type, return-value]
    modes = {kind: one.mode for kind, one in loaded.policies[0].items()}
    assert modes[EventType.FORK] is Mode.FORWARD_ALL
    assert modes[EventType.UNLINK] is Mode.REJECT_ALL


def test_the_pipeline_waits_only_without_records(bench: Bench) -> None:
    bench.loaded.records = [record(EventType.OPEN, [[b"a"]])]
    assert bench.pipeline.pump(50) == 1
    assert bench.pipeline.pump(50) == 0
    assert bench.loaded.ring.waited == [50]


@pytest.mark.parametrize(("discards", "checks"), [(True, 2), (False, 0)])
def test_discarders_are_checked_at_intervals(
    discards: bool, checks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With discarders, the pipeline checks each second whether the kernel skipped their programs."""
    clock = iter((10.0, 10.5, 11.2))
    monkeypatch.setattr("agent.pipeline.time.monotonic", lambda: next(clock, 11.3))
    bench = Bench(discards)
    for _ in range(3):
        bench.feed()
    assert bench.loaded.checks == checks


def test_programs_are_attached_before_their_rules_and_detached_after() -> None:
    """No event that both rule sets match is missed, and no rule waits for an event without hook."""
    bench = Bench()
    bench.loaded.steps.clear()
    bench.pipeline.enforce(loads('rules: [{id: c, expression: chmod.file.path == "/etc/x"}]'))
    events = frozenset({EventType.CHMOD})
    for _ in range(4):
        bench.pipeline.pump(0)
    detached = [("detach", events)] * 2
    assert bench.loaded.steps == [("attach", events), ("policy", frozenset()), *detached]
