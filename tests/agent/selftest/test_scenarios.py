"""Every scenario passes on a model of a kernel, and fails on a model with the fault that it must find."""

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
from agent.selftest.scenarios import approvers, discarders, loss, truth
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


class FakeStage:
    """A stage with one type of agent; the generator feeds the agent that was opened last."""

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
    """A folder that all users may enter, as /tmp is, so that only the file can cause a refusal."""
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
        return FakeStage(generator, tmp_path, kind).stage.run(scenario)

    return run


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_each_scenario_passes_on_the_model(scenario: Scenario, play: Play, tmp_path: Path) -> None:
    ran = play(scenario.name)
    if "kernel" in scenario.needs:
        assert (ran.verdict, ran.assertions) == ("SKIP", ())
        return
    assert ran.verdict == "PASS", (ran.reason, [entry for entry in ran.assertions if not entry["ok"]])
    assert len(ran.assertions) >= 4
    assert ran.ledger["open"]["generated"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("family", sorted({scenario.family for scenario in CATALOGUE}))
def test_each_function_belongs_to_a_scenario(family: str) -> None:
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
    """Reports every event twice, and counts both."""

    def _see(self, event: Event) -> None:
        super()._see(event)
        super()._see(event)


class SwapsPaths(FakeAgent):
    """Reports the first path of a rename as the second."""

    def _see(self, event: Event) -> None:
        if event.file2:
            event.file2 = event.file
        super()._see(event)


class ForgetsResults(FakeAgent):
    """Reports every call as a success."""

    def _see(self, event: Event) -> None:
        event.retval = 0
        super()._see(event)


class ForwardsAll(FakeAgent):
    """Filters nothing in the kernel, and counts accordingly."""

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._counts[event.type, "submitted"] += 1
        self._ring.append(event)


class ForwardsNothing(FakeAgent):
    """Its approvers approve nothing."""

    def _see(self, event: Event) -> None:
        self._counts[event.type, "seen"] += 1
        self._counts[event.type, "approver_rejected"] += 1


class LosesSilently(FakeAgent):
    """Does not count the events that its ring buffer lost."""

    def _see(self, event: Event) -> None:
        super()._see(event)
        self._counts[event.type, "ring_full"] = 0


class Invents(FakeAgent):
    """Counts a delivered event that was not generated."""

    def drain(self) -> list[Judged]:
        self._counts[EventType.UNLINK, "delivered"] += 1
        return super().drain()


class TinyRing(FakeAgent):
    """Always has the smallest ring buffer."""

    def __init__(self, ring_bytes: int = 0) -> None:
        super().__init__(4096)


class LosesOften(FakeAgent):
    """Loses and counts events that it should report."""

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
def test_each_fault_is_found(kind: type[FakeAgent], name: str, play: Play) -> None:
    ran = play(name, kind)
    assert ran.verdict == "FAIL"
    assert ran.reason
    assert any("evidence" in entry for entry in ran.assertions)


@pytest.mark.parametrize("name", ["loss.steady", "loss.sustained", "loss.fast", "loss.rate"])
@pytest.mark.parametrize(("what", "value"), [("LATE_S", -10.0), ("HEADROOM", 1e9)])
def test_a_cpu_that_cannot_reach_the_rate_is_a_skip(
    name: str, what: str, value: float, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is skipped with the rate that the CPU reached."""
    monkeypatch.setattr(loss, what, value)
    ran = play(name)
    if what == "HEADROOM" and name == "loss.rate":
        assert ran.verdict == "PASS"  # it climbs from a rate that any CPU can make
        return
    assert (ran.verdict, "this CPU" in ran.reason) == ("SKIP", True)


@pytest.mark.parametrize("name", ["loss.steady", "loss.rate", "truth.tamper"])
@pytest.mark.parametrize(("opens", "verdict"), [(0, "SKIP"), (100, "SKIP"), (1 << 40, "FAIL")])
def test_a_cpu_that_the_agent_makes_slow_is_a_failure(
    name: str, opens: int, verdict: str, generator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If opens were many times faster before its programs were attached."""
    for module, what, value in (*SHORTER, (loss, "LATE_S", -10.0), (truth, "TAMPER_NS", 0)):
        monkeypatch.setattr(module, what, value)
    scenario = by_name(name)
    assert scenario
    ran = FakeStage(generator, tmp_path, FakeAgent).stage._replace(opens=opens).run(scenario)
    assert ran.verdict == verdict, ran.reason
    assert ran.reason.startswith("opens a second with the agent's programs") is (verdict == "FAIL")


def test_a_loss_at_a_rate_that_was_not_reached_is_a_failure(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a starved CPU."""
    monkeypatch.setattr(loss, "LATE_S", -10.0)
    for name in ("loss.steady", "loss.rate"):
        assert play(name, LosesOften).verdict == "FAIL"


def test_a_failure_has_its_rule_line_hook_and_ledger(play: Play) -> None:
    """With approvers that approve nothing."""
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
    assert "comm truth-user" in evidence["script"]
    shown = summary.report([ran], FakeAgent().facts())
    for word in ("rule    watched: unlink.file.path", "line    4: unlink /", "hook    unlink.exit by model"):
        assert word in shown
    assert "ledger  unlink: generated 1, seen 1, approver_rejected 1" in shown


def test_the_first_failure_has_the_kernel_log(play: Play) -> None:
    """From the test's begin to its end, if the log can be opened."""
    ran = play("truth.unlink", ForwardsNothing)
    first = next(entry for entry in ran.assertions if not entry["ok"])
    assert first["evidence"]["kernel log"] == list(ran.log)
