"""Every scenario passes on a kernel that keeps its promises, and fails on one that breaks its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from agent.events.model import Event, EventType
from agent.selftest import fake, scenarios, summary
from agent.selftest.catalogue import CATALOGUE, Scenario, by_name
from agent.selftest.fake import FakeAgent, FakeWorkload
from agent.selftest.protocol import Ran
from agent.selftest.runner import Stage
from agent.selftest.scenarios import approvers, discarders, loss
from agent.selftest.subject import Judged

Play = Callable[..., Ran]

# The same promises in less time.
SHORTER = (
    (approvers, "NOISE", 101),
    (discarders, "NOISE", 101),
    (loss, "BURST", 101),
    (loss, "SECONDS", 1),
    (loss, "LONG_S", 1),
    (loss, "RATE", 503),
    (loss, "FAST", 503),
    (loss, "FLOOD_NOISE", 13),
    (loss, "STOPPED_S", 1),
    (loss, "LADDER", (211, 401)),
)


class Theatre:
    """A stage with one kind of agent; the generator reports to the agent that was opened last."""

    def __init__(self, generator: Path, where: Path, kind: type[FakeAgent]) -> None:
        self.kind = kind
        self.agents = [kind()]
        self.stage = Stage(
            self.agents[0], lambda patience: self.start(generator, patience), self.open, 1, where
        )

    def start(self, generator: Path, patience_s: float) -> FakeWorkload:
        return FakeWorkload(generator, patience_s, self.agents[-1])

    def open(self, ring_bytes: int, discarders: int, events: Sequence[EventType]) -> FakeAgent:
        self.agents.append(self.kind(ring_bytes or fake.RING_BYTES))
        return self.agents[-1]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that anyone may enter, as the scenarios' folder in /tmp is: a refusal is to be the file's."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def play(generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
    for module, name, value in SHORTER:
        monkeypatch.setattr(module, name, value)

    def run(name: str, kind: type[FakeAgent] = FakeAgent) -> Ran:
        scenario = by_name(name)
        assert scenario
        return Theatre(generator, tmp_path, kind).stage.run(scenario)

    return run


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_each_has_a_body_and_passes_on_the_model(scenario: Scenario, play: Play, tmp_path: Path) -> None:
    ran = play(scenario.name)
    if "kernel" in scenario.needs:
        assert (ran.verdict, ran.assertions) == ("SKIP", ())
        return
    assert ran.verdict == "PASS", (ran.reason, [entry for entry in ran.assertions if not entry["ok"]])
    assert len(ran.assertions) >= 4
    assert ran.ledger["open"]["generated"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", sorted({scenario.family for scenario in CATALOGUE}))
def test_no_body_is_without_a_scenario(family: str) -> None:
    assert scenarios.written(family) == {entry.name for entry in CATALOGUE if entry.family == family}


PLAYED = tuple(scenario.name for scenario in CATALOGUE if "kernel" not in scenario.needs)
FILTERING = tuple(name for name in PLAYED if name.startswith(("approvers.", "discarders.")))
REFUSED = tuple(
    name
    for name in PLAYED
    if name.startswith("truth.") and "refuse" in by_name(name).proves  # type: ignore[union-attr]
)


class HidesOne(FakeAgent):
    """Drops one event without counting it."""

    hidden = False

    def _see(self, event: Event) -> None:
        if self.hidden:
            super()._see(event)
        self.hidden = True


class Repeats(FakeAgent):
    """Tells every event twice, and counts both."""

    def _see(self, event: Event) -> None:
        super()._see(event)
        super()._see(event)


class SwapsPaths(FakeAgent):
    """Tells the second path of a rename as the first."""

    def _see(self, event: Event) -> None:
        if event.file2:
            event.file2 = event.file
        super()._see(event)


class ForgetsResults(FakeAgent):
    """Every call succeeds."""

    def _see(self, event: Event) -> None:
        event.retval = 0
        super()._see(event)


class ForwardsAll(FakeAgent):
    """Filters nothing in the kernel, and says so."""

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._counts[event.type, "submitted"] += 1
        self._ring.append(event)


class ForwardsNothing(FakeAgent):
    """Its approvers approve of nothing."""

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._counts[event.type, "approver_rejected"] += 1


class LosesSilently(FakeAgent):
    """Does not count what its ring had no room for."""

    def _see(self, event: Event) -> None:
        super()._see(event)
        self._counts[event.type, "ring_full"] = 0


class Invents(FakeAgent):
    """Says that it delivered what nobody made."""

    def drain(self) -> list[Judged]:
        self._counts[EventType.UNLINK, "delivered"] += 1
        return super().drain()


class TinyRing(FakeAgent):
    """Has always the smallest of rings."""

    def __init__(self, ring_bytes: int = 0) -> None:
        super().__init__(4096)


class LosesOften(FakeAgent):
    """Counts as lost what it should have told."""

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._counts[event.type, "ring_full"] += 1


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((HidesOne, name) for name in PLAYED),
        *((Repeats, name) for name in PLAYED),
        *((Invents, name) for name in PLAYED),
        *((ForwardsNothing, name) for name in PLAYED),
        (SwapsPaths, "truth.rename"),
        (SwapsPaths, "truth.link"),
        *((ForgetsResults, name) for name in REFUSED),
        *((ForwardsAll, name) for name in FILTERING),
        (LosesSilently, "loss.small_ring"),
        *(
            (TinyRing, f"loss.{name}")
            for name in ("steady", "sustained", "fast", "burst", "unread", "stopped")
        ),
    ],
)
def test_a_broken_promise_is_noticed(kind: type[FakeAgent], name: str, play: Play) -> None:
    ran = play(name, kind)
    assert ran.verdict == "FAIL"
    assert ran.reason
    assert any("evidence" in entry for entry in ran.assertions)


@pytest.mark.parametrize("name", ["loss.steady", "loss.sustained", "loss.fast", "loss.rate"])
@pytest.mark.parametrize(("what", "value"), [("LATE_S", -10.0), ("HEADROOM", 1e9)])
def test_a_cpu_that_cannot_make_the_rate_proves_nothing(
    name: str, what: str, value: float, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped with what the CPU did make; a rate is never reported that was not kept."""
    monkeypatch.setattr(loss, what, value)
    ran = play(name)
    if what == "HEADROOM" and name == "loss.rate":
        assert ran.verdict == "PASS"  # it climbs from a rate that any CPU can make
        return
    assert (ran.verdict, "this CPU" in ran.reason) == ("SKIP", True)


def test_a_loss_at_a_rate_that_was_not_kept_is_a_failure(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starved CPU is no excuse for losing what it did make."""
    monkeypatch.setattr(loss, "LATE_S", -10.0)
    for name in ("loss.steady", "loss.rate"):
        assert play(name, LosesOften).verdict == "FAIL"


def test_a_failure_says_which_rule_line_hook_and_row_it_is_about(play: Play) -> None:
    """With approvers that approve of nothing: what was asked for, done, seen, and where it went."""
    ran = play("truth.unlink", ForwardsNothing)
    failed = next(entry for entry in ran.assertions if entry["name"] == "events of watched")
    assert (failed["ok"], failed["expected"], failed["got"]) == (False, 1, 0)
    evidence = failed["evidence"]
    assert evidence["rule"].startswith('watched: unlink.file.path == "')
    assert [line.partition(":")[0] for line in evidence["line"]] == ["4"]
    assert "unlink /" in evidence["line"][0]
    assert evidence["line"][0].endswith("returned -13")
    assert evidence["hook"] == ["unlink.exit by model at model: attached"]
    assert evidence["ledger"]["unlink"] == "generated 1, seen 1, approver_rejected 1"
    assert "comm truth-nobody" in evidence["script"]
    shown = summary.report([ran], FakeAgent().facts())
    for word in ("rule    watched: unlink.file.path", "line    4: unlink /", "hook    unlink.exit by model"):
        assert word in shown
    assert "ledger  unlink: generated 1, seen 1, approver_rejected 1" in shown


def test_the_first_failure_holds_the_kernels_log_of_its_test(play: Play) -> None:
    """From the test's begin to its end, where the log can be opened."""
    ran = play("truth.unlink", ForwardsNothing)
    first = next(entry for entry in ran.assertions if not entry["ok"])
    assert first["evidence"]["kernel log"] == list(ran.log)
